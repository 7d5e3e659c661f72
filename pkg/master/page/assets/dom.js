// The few ways in which this page touches the document. Text goes in as text, never as
// markup, and what has not changed is left alone: focus and selection survive.

export const byId = (id) => document.getElementById(id);

// el makes an element. Attributes that are null or false are left out.
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    attr(node, name, value);
  }
  node.append(...children);
  return node;
}

// svg makes an element of a drawing.
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) {
    attr(node, name, value);
  }
  node.append(...children);
  return node;
}

// text sets what a node says, if it says something else.
export function text(node, value) {
  if (node.textContent !== value) {
    node.textContent = value;
  }
}

// attr sets an attribute, or removes it: null and false.
export function attr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) {
      node.removeAttribute(name);
    }
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

// show hides a node or shows it.
export function show(node, is) {
  if (node.hidden === Boolean(is)) {
    node.hidden = !is;
  }
}

// line is a paragraph that is there only if it says something.
export function line(node, value) {
  text(node, value);
  show(node, value !== "");
}

const nodes = new WeakMap(); // by parent: its children by key

// keyed makes a parent's children those of items, each by its key: what is there already is
// updated in its place, and moved only if the order has changed. It returns them.
export function keyed(parent, items, keyOf, make, update) {
  const have = nodes.get(parent) ?? new Map();
  nodes.set(parent, have);
  const wanted = new Map(items.map((item) => [String(keyOf(item)), item]));
  for (const [key, node] of have) {
    if (!wanted.has(key)) {
      node.remove();
      have.delete(key);
    }
  }
  let at = parent.firstElementChild;
  for (const [key, item] of wanted) {
    let node = have.get(key);
    if (!node) {
      node = make(item);
      have.set(key, node);
    }
    if (node === at) {
      at = at.nextElementSibling;
    } else {
      parent.insertBefore(node, at);
    }
    update(node, item);
  }
  return have;
}

// cell is one of a table whose rows become cards on a narrow screen: it has its column's name.
export function cell(label, kind = "") {
  return el("td", { role: "cell", "data-label": label, class: kind || null });
}

const http = require('node:http');

http.createServer((req, res) => {
  req.resume();
  req.on('end', () => {
    res.setHeader('X-Worker-Version', process.env.RELEASE || '');
    res.end('ok\n');
  });
}).listen(8000);

const cluster = require('node:cluster');
const http = require('node:http');

if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {
  http.createServer((req, res) => {
    req.resume();
    req.on('end', () => {
      res.setHeader('X-Worker-Version', process.env.RELEASE || '');
      res.end('ok\n');
    });
  }).listen(8000);
}

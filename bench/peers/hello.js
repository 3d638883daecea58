// A Node function as a child of of-watchdog.
require("node:http")
  .createServer((_, response) => {
    response.setHeader("Content-Type", "text/plain; charset=utf-8");
    response.end("hello\n");
  })
  .listen(Number(process.env.upstream_port), "127.0.0.1");

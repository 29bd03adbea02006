// The function the tests use for answers that are streamed, from Node: event.op
// says how.
let ended = 0; // streams of this container

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const written = (s, text) => new Promise((done) => s.write(text, done));

const ops = {
  // Writes parts until it is timed out.
  endless: async (event, s) => { for (let n = 0; ; n++) { await written(s, `part ${n}\n`); await sleep(20); } },
  parts: async (event, s) => { for (let n = 0; n < event.parts; n++) { await written(s, `part ${n}\n`); await sleep(event.ms); } s.end(); },
  much: async (event, s) => {
    const part = Buffer.alloc(64 << 10, 'x');
    for (let left = event.bytes; left > 0; left -= part.length) await written(s, part.subarray(0, Math.min(left, part.length)));
    s.end();
  },
  prelude: async (event, s) => {
    s = awslambda.HttpResponseStream.from(s, { statusCode: 201, headers: { 'X-A': 'b' } });
    s.write({ body: 1 });
    s.end();
  },
  ended: async (event, s) => s.end(String(ended)),
  throw: async () => { throw new TypeError('boom'); },
  late: async (event, s) => { await written(s, 'part 0\n'); throw new RangeError('late'); },
  exit: async (event, s) => { await written(s, 'part 0\n'); process.exit(event.status); },
  crash: async (event, s) => { await written(s, 'part 0\n'); process.kill(process.pid, 'SIGKILL'); },
  uncaught: async (event, s) => { await written(s, 'part 0\n'); setTimeout(() => { throw new Error('lost'); }); await sleep(1000); },
};

export const handler = awslambda.streamifyResponse(async (event, responseStream, context) => {
  try {
    await ops[event.op](event, responseStream, context);
  } finally {
    ended++;
  }
});

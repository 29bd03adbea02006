// The function the tests use from Node: event.op says what it does. kit.py does
// the same for Python.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';

let calls = 0; // kept between calls of one container
const kept = []; // what must not be collected

const attempt = (f) => {
  try {
    return { ok: true, value: f() };
  } catch (e) {
    return { ok: false, error: e.code ?? String(e) };
  }
};

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const ops = {
  echo: (event) => event.value,
  nothing: () => undefined,
  calls: () => calls,
  env: () => process.env,
  version: () => process.version,
  credentials: async (event) => {
    const token = event.token ?? process.env.AWS_CONTAINER_AUTHORIZATION_TOKEN;
    const answer = await fetch(process.env.AWS_CONTAINER_CREDENTIALS_FULL_URI, { headers: { Authorization: token } });
    return answer.json();
  },

  context: (event, c) => ({
    requestId: c.awsRequestId, name: c.functionName, version: c.functionVersion, arn: c.invokedFunctionArn,
    memory: c.memoryLimitInMB, group: c.logGroupName, stream: c.logStreamName, remaining: c.getRemainingTimeInMillis(),
    client: c.clientContext ?? null, trace: process.env._X_AMZN_TRACE_ID ?? '',
  }),

  // How it can fail.
  throw: () => { throw new TypeError('boom'); },
  reject: async () => { await sleep(1); throw new RangeError('later'); },
  exit: (event) => process.exit(event.status),
  crash: () => process.kill(process.pid, 'SIGKILL'),
  sleep: async (event) => { console.log('sleeping'); await sleep(event.ms); return 'slept'; },
  spin: () => { for (;;); },
  stubborn: () => { for (const s of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(s, () => {}); for (;;); },
  eat: () => { for (;;) kept.push(Buffer.alloc(16 << 20, 1)); },
  big: (event) => 'x'.repeat(event.bytes),

  // The log.
  log: (event) => { for (const line of event.lines) console.log(line); return null; },
  flood: (event) => {
    const line = 'y'.repeat(1023) + '\n';
    for (let n = 0; n < event.bytes; n += line.length) fs.writeSync(1, line);
    return event.bytes;
  },

  // What it can reach.
  read: (event) => attempt(() => fs.readFileSync(event.path, 'latin1').slice(0, 4096)),
  list: (event) => attempt(() => fs.readdirSync(event.path).sort()),
  write: (event) => attempt(() => fs.writeFileSync(event.path, event.text ?? '')),
  run: (event) => {
    const r = spawnSync(event.args[0], event.args.slice(1), { encoding: 'latin1', timeout: event.ms ?? 5000 });
    return { status: r.status ?? -1, out: (r.stdout ?? '') + (r.stderr ?? ''), error: r.error ? r.error.code : '' };
  },
  connect: (event) => new Promise((done) => {
    const s = net.connect({ host: event.host, port: event.port, timeout: event.ms ?? 1000 });
    const end = (result) => { s.destroy(); done(result); };
    s.on('connect', () => end('connected'));
    s.on('timeout', () => end('timeout'));
    s.on('error', (e) => end(e.code));
  }),

  // What it can break.
  closeHost: () => { fs.closeSync(3); return 'closed'; },
  garbage: () => { fs.writeSync(3, Buffer.alloc(65536, 0xff)); return 'written'; },
  fork: () => {
    let n = 0;
    for (; n < 3000; n++) {
      const child = spawn('/bin/sleep', ['1000'], { detached: true, stdio: 'ignore' });
      if (child.pid === undefined) { child.on('error', () => {}); break; }
      child.unref();
    }
    return n;
  },
  fill: () => {
    const chunk = Buffer.alloc(4 << 20, 1);
    const fd = fs.openSync('/tmp/fill', 'w');
    let n = 0;
    try {
      for (; n < (1 << 30); n += chunk.length) fs.writeSync(fd, chunk);
    } catch (e) {
      return { bytes: n, error: e.code };
    } finally {
      fs.closeSync(fd);
    }
    return { bytes: n, error: '' };
  },
  python: (event) => execFileSync('/usr/bin/python3', ['-c', event.code], { encoding: 'latin1', timeout: 8000 }),
};

export const handler = async (event, context) => {
  calls++;
  return ops[event.op](event, context);
};

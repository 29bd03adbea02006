// The Node.js bootstrap of lambent: it runs one function inside a sandbox and
// talks to the host over file descriptor 3, in the frames that
// internal/runtimeapi/frame describes. What the function sees is AWS's Node.js
// runtime: handler forms, context, error JSON, console format.
//
// The process is started before anybody knows whose function it will run. It
// loads what takes time, says BOOTED, and waits for ASSIGN.
//
// Order of things: EVENT is read, synchronously → the handler runs → the answer
// and READY go out in one write → the event loop takes one turn → again. While
// the handler runs, nothing of this file keeps the event loop alive: when it runs
// empty, nobody is left who could answer.
//
// The user's code shares this process and could break everything in here. The
// host trusts nothing of it; this file only keeps honest code from accidents.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const util = require('node:util');
const Module = require('node:module');
const { pathToFileURL } = require('node:url');
const { Writable } = require('node:stream');

const HOST_FD = 3;
const FRAME = {
  ASSIGN: 0x01, EVENT: 0x02,
  BOOTED: 0x10, READY: 0x11, INIT_ERROR: 0x12, RESPONSE: 0x13, ERROR: 0x14,
};
const HEADER_SIZE = 5;
const MAX_PAYLOAD = 6 * 1024 * 1024 + 100; // AWS's bound for an answer, in bytes

// What is used after the user's code has run is taken now: code that patches
// these for itself does not change how its own answers are sent.
const { parse, stringify } = JSON;
const { now } = Date;
const exit = process.exit.bind(process);
const { readSync, writeSync } = fs;
const { setImmediate } = globalThis;

// warming is true until BOOTED: nothing is written and nothing waited for.
let warming = true;

// ---------------------------------------------------------------------------
// Frames out.

// sleepCell lets a synchronous write wait for a full descriptor to be read.
const sleepCell = new Int32Array(new SharedArrayBuffer(4));

// writeAll writes bytes [from, to) of buf to fd before it returns. false: the
// other end is gone.
function writeAll(fd, buf, from, to) {
  if (warming) return true;
  while (from < to) {
    try {
      from += writeSync(fd, buf, from, to - from);
    } catch (err) {
      if (err.code === 'EAGAIN') Atomics.wait(sleepCell, 0, 0, 1);
      else if (err.code !== 'EINTR') return false;
    }
  }
  return true;
}

// out is where frames of up to its size are made.
const out = Buffer.allocUnsafeSlow(64 * 1024);
const READY_FRAME = Buffer.from([1, 0, 0, 0, FRAME.READY]);

// send writes a frame of some short strings and a payload (a string or bytes),
// and with next a READY behind it.
function send(type, shorts, payload, next) {
  let head = HEADER_SIZE;
  for (const s of shorts) head += 1 + Math.min(Buffer.byteLength(s), 255);
  const isText = typeof payload === 'string';
  // A UTF-16 unit takes at most 3 bytes of UTF-8; only long texts are measured.
  let room = head + payload.length * (isText ? 3 : 1) + READY_FRAME.length;
  let buf = out;
  if (room > out.length) {
    if (isText) room = head + Buffer.byteLength(payload) + READY_FRAME.length;
    buf = Buffer.allocUnsafeSlow(room);
  }

  let at = HEADER_SIZE;
  for (const s of shorts) {
    const n = buf.write(s, at + 1, 255);
    buf[at] = n;
    at += 1 + n;
  }
  if (isText) at += buf.write(payload, at);
  else { buf.set(payload, at); at += payload.length; }
  buf.writeUInt32LE(at - 4, 0);
  buf[4] = type;
  if (next) { buf.set(READY_FRAME, at); at += READY_FRAME.length; }
  if (!writeAll(HOST_FD, buf, 0, at)) exit(1);
}

// ---------------------------------------------------------------------------
// Frames in.

const INPUT_SIZE = 64 * 1024;

// input holds what has come and was not taken yet: bytes [start, end).
let input = Buffer.allocUnsafeSlow(INPUT_SIZE);
let start = 0;
let end = 0;

// more waits until at least size bytes from start on have come.
function more(size) {
  if (input.length - start < size) {
    const grown = input.length < size ? Buffer.allocUnsafeSlow(size) : input;
    input.copy(grown, 0, start, end);
    input = grown;
    end -= start;
    start = 0;
  }
  while (end - start < size) {
    let n = 0;
    try {
      n = readSync(HOST_FD, input, end, input.length - end, null);
    } catch (err) {
      if (err.code === 'EAGAIN') Atomics.wait(sleepCell, 0, 0, 1);
      if (err.code === 'EAGAIN' || err.code === 'EINTR') continue;
    }
    if (n === 0) exit(0); // the host is gone, and so is the need for us
    end += n;
  }
}

// next waits for what the host says next. The whole process stands still for as
// long: the one system call it waits in is what it costs, and no timer or socket
// of the function runs between events, as on AWS, which freezes it there.
function next() {
  if (start === end) {
    start = end = 0;
    if (input.length > INPUT_SIZE) input = Buffer.allocUnsafeSlow(INPUT_SIZE);
  }
  const since = now();
  more(HEADER_SIZE);
  const size = 4 + input.readUInt32LE(start);
  more(size);
  const type = input[start + 4];
  const from = start + HEADER_SIZE;
  const to = start += size;
  if (type === FRAME.EVENT) {
    const headEnd = from + 4 + input.readUInt32LE(from);
    const head = parse(input.utf8Slice(from + 4, headEnd));
    const payload = input.utf8Slice(headEnd, to);
    // What has happened to the function's sockets and timers meanwhile it hears
    // of before its event; after a short wait that is not worth a loop's turn.
    if (now() - since < LONG_WAIT) onEvent(head, payload);
    else setImmediate(onEvent, head, payload);
  } else if (type === FRAME.ASSIGN) {
    onAssign(parse(input.utf8Slice(from, to)));
  } else {
    exit(1);
  }
}

const LONG_WAIT = 5; // milliseconds

// later lets what the function has left to do now be done, then waits.
const later = () => { if (!warming) setImmediate(next); };

// ---------------------------------------------------------------------------
// Errors, in AWS's shapes.

class RuntimeError extends Error {}
function runtimeError(name) {
  const made = { [name]: class extends RuntimeError {} }[name];
  made.prototype.name = `Runtime.${name}`;
  return made;
}
const ImportModuleError = runtimeError('ImportModuleError');
const HandlerNotFound = runtimeError('HandlerNotFound');
const MalformedHandlerName = runtimeError('MalformedHandlerName');
const UserCodeSyntaxError = runtimeError('UserCodeSyntaxError');
const NodeJsExit = runtimeError('NodeJsExit');
const UnhandledPromiseRejection = runtimeError('UnhandledPromiseRejection');
const MalformedStreamingHandler = runtimeError('MalformedStreamingHandler');

function looksLikeError(e) {
  return util.types.isNativeError(e) || (e && typeof e.name === 'string' && e.name &&
    typeof e.message === 'string' && e.message && typeof e.stack === 'string' && e.stack);
}

// errorBody is what the caller of the function gets to see of an error.
function errorBody(error) {
  try {
    if (looksLikeError(error)) {
      return { errorType: error.name, errorMessage: error.message, trace: error.stack.split('\n') };
    }
    return { errorType: typeof error, errorMessage: String(error), trace: [] };
  } catch {
    return {
      errorType: 'handled',
      errorMessage: 'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack',
    };
  }
}

function sendError(type, shorts, error, next) {
  const body = errorBody(error);
  let text;
  try {
    text = stringify(body);
  } catch {
    text = stringify({ errorType: 'handled', errorMessage: 'the error could not be made JSON', trace: [] });
  }
  send(type, [...shorts, String(body.errorType)], text, next);
}

// sendTooLarge answers in place of an answer that is over the limit. (The host
// would say the same, after it had been sent all of it.)
function sendTooLarge(id) {
  const errorType = 'Function.ResponseSizeTooLarge';
  const errorMessage = `Response payload size exceeded maximum allowed payload size (${MAX_PAYLOAD} bytes).`;
  send(FRAME.ERROR, [id, errorType], stringify({ errorType, errorMessage }), true);
}

// ---------------------------------------------------------------------------
// The log.

let requestId; // of the running event; undefined during init, and logged so
const REQUEST_ID = Symbol.for('aws.lambda.runtime.requestId'); // where loggers look for it
let tenantId;
let jsonLog = false;

function writeLog(text) {
  const buf = Buffer.from(text, 'utf8');
  writeAll(1, buf, 0, buf.length);
}

function logError(what, error) {
  const e = error instanceof Error ? error : new Error(error);
  if (jsonLog) console.error(e);
  else console.error(what, formatError(e));
}

function formatError(error) {
  try {
    return '\t' + stringify(error, (_key, value) => {
      if (!(value instanceof Error)) return value;
      const shown = { errorType: value.name, errorMessage: value.message, code: value.code, ...value };
      if (typeof value.stack === 'string') shown.stack = value.stack.split('\n');
      return shown;
    });
  } catch {
    return '\t' + stringify(errorBody(error));
  }
}

function textLine(level, args) {
  return `${new Date().toISOString()}\t${requestId}\t${level}\t${util.format(...args)}\n`;
}

function jsonLine(level, args) {
  const line = { timestamp: new Date().toISOString(), level, requestId };
  if (tenantId !== undefined) line.tenantId = tenantId;
  const shown = (_key, value) => (value instanceof Error ? {
    errorType: value.constructor?.name ?? 'UnknownError', errorMessage: value.message,
    stackTrace: typeof value.stack === 'string' ? value.stack.split('\n') : value.stack, ...value,
  } : value);
  if (args.length === 1) {
    try {
      return stringify({ ...line, message: args[0] }, shown) + '\n';
    } catch { /* not JSON: formatted below */ }
  }
  line.message = util.format(...args);
  const error = args.find((a) => a instanceof Error);
  if (error) Object.assign(line, shown('', error));
  return stringify(line) + '\n';
}

// patchConsole gives the console AWS's format and level filter.
function patchConsole(env) {
  jsonLog = env.AWS_LAMBDA_LOG_FORMAT?.toUpperCase() === 'JSON';
  const levels = ['TRACE', 'DEBUG', 'INFO', 'WARN', 'ERROR', 'FATAL'];
  const least = Math.max(0, levels.indexOf(env.AWS_LAMBDA_LOG_LEVEL?.toUpperCase()));
  const line = jsonLog ? jsonLine : textLine;
  const nothing = () => {};
  const logger = (level) => (levels.indexOf(level) < least ? nothing : (...args) => writeLog(line(level, args)));
  for (const level of levels) console[level.toLowerCase()] = logger(level);
  console.log = console.info;
}

// ---------------------------------------------------------------------------
// Init.

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');

let handler;
let isAsync = false;
let isStreaming = false;
let contextBase; // the part of the context that is the same for every event

async function onAssign(assignment) {
  const { env, taskRoot, user } = assignment;
  try {
    if (user && process.getuid() === 0) {
      process.setgroups([]);
      process.setgid(user.gid);
      process.setuid(user.uid);
    }
    for (const key of Object.keys(process.env)) if (!(key in env)) delete process.env[key];
    Object.assign(process.env, env);
    process.chdir(taskRoot);
    if (env.NODE_PATH) Module._initPaths(); // reads NODE_PATH again
    patchConsole(env);
    contextBase = {
      functionVersion: assignment.version,
      functionName: assignment.functionName,
      memoryLimitInMB: String(assignment.memoryMb),
      logGroupName: assignment.logGroup,
      logStreamName: assignment.logStream,
    };
    if (!/^(1|true)$/.test(env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA ?? '')) {
      globalThis.awslambda = { streamifyResponse, HttpResponseStream };
    }
    handler = await loadHandler(taskRoot, assignment.handler);
    isAsync = handler.constructor?.name === 'AsyncFunction';
    isStreaming = isStreamingHandler(handler);
  } catch (error) {
    failInit(error, 1);
    return;
  }
  send(FRAME.READY, [], '', false);
  later();
}

function failInit(error, status) {
  logError('Uncaught Exception', error);
  sendError(FRAME.INIT_ERROR, [], error, false);
  exit(status);
}

// loadHandler finds the function a handler string names: an optional folder, a
// module, and the path of an export: "folder/module.export.of.it".
async function loadHandler(root, name) {
  if (name.includes('..')) {
    throw new MalformedHandlerName(`'${name}' is not a valid handler name. Use absolute paths when specifying root directories in handler names.`);
  }
  const base = path.basename(name);
  const folder = name.slice(0, name.indexOf(base));
  const dot = base.indexOf('.');
  if (dot < 0) throw new MalformedHandlerName('Bad handler');
  const module = base.slice(0, dot);

  let exported;
  try {
    exported = await loadModule(root, folder, module);
  } catch (error) {
    if (error instanceof SyntaxError) throw new UserCodeSyntaxError(error);
    if (error?.code === 'MODULE_NOT_FOUND') throw new ImportModuleError(error);
    throw error;
  }
  for (const key of base.slice(dot + 1).split('.')) exported = exported && exported[key];
  if (!exported) throw new HandlerNotFound(`${name} is undefined or not exported`);
  if (typeof exported !== 'function') throw new HandlerNotFound(`${name} is not a function`);
  return exported;
}

// loadModule loads the user's module in AWS's order: a file without extension,
// .js (as its package.json says), .mjs, .cjs; then a folder, then a package.
async function loadModule(root, folder, module) {
  const file = path.resolve(root, folder, module);
  const isFile = (f) => fs.statSync(f, { throwIfNoEntry: false })?.isFile();
  const asModule = (f) => import(pathToFileURL(f).href);
  if (isFile(file)) return require(file);
  if (isFile(file + '.js')) return isModulePackage(path.dirname(file), root) ? asModule(file + '.js') : require(file + '.js');
  if (isFile(file + '.mjs')) return asModule(file + '.mjs');
  if (isFile(file + '.cjs')) return require(file + '.cjs');
  if (fs.existsSync(file)) return require(file); // a folder
  return require(require.resolve(module, { paths: [root, path.resolve(root, folder)] }));
}

// isModulePackage reports whether the nearest package.json says type: module.
function isModulePackage(folder, root) {
  for (;; folder = path.dirname(folder)) {
    if (folder.endsWith('/node_modules')) return false;
    let text;
    try {
      text = fs.readFileSync(path.join(folder, 'package.json'), 'utf8');
    } catch { /* not here */ }
    if (text !== undefined) {
      try {
        return parse(text)?.type === 'module';
      } catch (error) {
        console.warn(`${folder}/package.json cannot be read, it will be ignored for ES module detection purposes.`, error);
        return false;
      }
    }
    if (folder === root || folder === '/') return false;
  }
}

// ---------------------------------------------------------------------------
// Streaming handlers: the answer is collected and sent as one.

function streamifyResponse(fn, options) {
  fn[STREAMING] = 'response';
  void options;
  return fn;
}

function isStreamingHandler(fn) {
  const mark = fn[STREAMING];
  if (mark === undefined || mark === null || mark === false) return false;
  if (mark === 'response') return true;
  throw new MalformedStreamingHandler('Only response streaming is supported.');
}

class CollectingStream extends Writable {
  #parts = [];
  #size = 0;
  contentType;

  setContentType(type) { this.contentType = type; }

  _write(part, _encoding, done) {
    if (this._onBeforeFirstWrite) {
      const before = this._onBeforeFirstWrite;
      this._onBeforeFirstWrite = undefined;
      before((p) => this.#take(Buffer.from(p)));
    }
    this.#take(part);
    done();
  }

  #take(part) {
    this.#size += part.length;
    if (this.#size <= MAX_PAYLOAD) this.#parts.push(part);
    else this.#parts = []; // only its size matters now
  }

  get tooLarge() { return this.#size > MAX_PAYLOAD; }

  bytes() { return Buffer.concat(this.#parts); }
}

class HttpResponseStream {
  static from(stream, prelude) {
    stream.setContentType('application/vnd.awslambda.http-integration-response');
    stream._onBeforeFirstWrite = (write) => {
      write(stringify(prelude));
      write(new Uint8Array(8)); // ends the prelude
    };
    return stream;
  }
}

// ---------------------------------------------------------------------------
// Events.

// call is the event being worked on; undefined between events.
let call;

// Call is one event and how far it has come. An answer is sent once; whatever
// the handler does after that is its own affair.
class Call {
  answered = false; // the answer was sent
  called = false; // the handler called one of the functions that end it
  waits = true; // callbackWaitsForEmptyEventLoop

  constructor(id) { this.id = id; }

  // succeed sends an answer.
  succeed(result) {
    if (this.answered) return;
    let text;
    try {
      text = stringify(result === undefined ? null : result);
      if (text === undefined) text = 'null'; // a function or a symbol
    } catch {
      this.fail(new Error('Unable to stringify response body'));
      return;
    }
    this.#send(text);
  }

  // sendBytes sends an answer that is not JSON.
  sendBytes(bytes) {
    if (!this.answered) this.#send(bytes);
  }

  #send(payload) {
    this.#close();
    if (payload.length > MAX_PAYLOAD / 3 && Buffer.byteLength(payload) > MAX_PAYLOAD) sendTooLarge(this.id);
    else send(FRAME.RESPONSE, [this.id], payload, true);
    later();
  }

  // tooLarge sends that the answer is over the limit.
  tooLarge() {
    if (this.answered) return;
    this.#close();
    sendTooLarge(this.id);
    later();
  }

  // fail sends an error.
  fail(error) {
    if (this.answered) return;
    logError('Invoke Error', error);
    this.#close();
    sendError(FRAME.ERROR, [this.id], error, true);
    later();
  }

  // die sends an error of code that nobody waits for; the process ends after.
  die(error) {
    if (this.answered) return;
    this.#close();
    sendError(FRAME.ERROR, [this.id], error, false);
  }

  #close() {
    this.answered = true;
    call = undefined;
  }

  // Whether this is the first of callback, done, succeed and fail: only that
  // counts.
  first() {
    if (this.called || this.answered) return false;
    this.called = true;
    return true;
  }

  callback = (error, result) => {
    if (!this.first()) return;
    if (error !== undefined && error !== null) this.fail(error);
    else if (!this.waits) this.succeed(result);
    else whenIdle = () => setImmediate(() => this.succeed(result));
  };

  done = (error, result) => {
    if (!this.first()) return;
    if (error !== undefined && error !== null) this.fail(error);
    else this.succeed(result);
  };

  resolved = (result) => { if (this.first()) this.succeed(result); };

  failed = (error) => { if (this.first()) this.fail(error ?? 'handled'); };
}

// whenIdle is what happens when the event loop has run empty.
let whenIdle;

process.on('beforeExit', () => {
  const act = whenIdle;
  whenIdle = undefined;
  if (act) act();
});

function onEvent(head, payload) {
  const current = call = new Call(head.id);
  requestId = head.id;
  tenantId = head.tenant;
  globalThis[REQUEST_ID] = head.id;
  whenIdle = () => idleWithoutAnswer(current);
  if (head.trace) process.env._X_AMZN_TRACE_ID = head.trace;
  else if (process.env._X_AMZN_TRACE_ID !== undefined) delete process.env._X_AMZN_TRACE_ID;

  try {
    const context = newContext(current, head);
    if (isStreaming) {
      runStreaming(current, parse(payload), context);
      return;
    }
    const result = handler(parse(payload), context, current.callback);
    if (result && typeof result.then === 'function') result.then(current.resolved, current.failed);
  } catch (error) {
    current.failed(error);
  }
}

// idleWithoutAnswer: nothing is left that could ever answer. An async handler
// waits for a promise nobody will settle; one that uses callbacks just never
// called it, which means null.
function idleWithoutAnswer(current) {
  if (isAsync || isStreaming) {
    current.failed(new NodeJsExit('The Lambda runtime client detected an unexpected Node.js exit code. This is most commonly caused by a Promise that was never settled. For more information, see https://nodejs.org/docs/latest/api/process.html#exit-codes'));
  } else {
    current.resolved(null);
  }
}

function newContext(current, head) {
  const context = {
    get callbackWaitsForEmptyEventLoop() { return current.waits; },
    set callbackWaitsForEmptyEventLoop(value) { current.waits = value; },
    succeed: current.resolved,
    fail: current.failed,
    done: current.done,
    functionVersion: contextBase.functionVersion,
    functionName: contextBase.functionName,
    memoryLimitInMB: contextBase.memoryLimitInMB,
    logGroupName: contextBase.logGroupName,
    logStreamName: contextBase.logStreamName,
    clientContext: parseField(head.client, 'ClientContext'),
    identity: parseField(head.identity, 'CognitoIdentity'),
    invokedFunctionArn: head.arn,
    awsRequestId: head.id,
    tenantId: head.tenant,
    getRemainingTimeInMillis: () => head.deadline - now(),
  };
  return context;
}

function parseField(text, name) {
  if (text === undefined) return undefined;
  try {
    return parse(text);
  } catch (error) {
    throw new Error(`Cannot parse ${name} as json: ${error}`);
  }
}

async function runStreaming(current, event, context) {
  const stream = new CollectingStream();
  const finished = new Promise((resolve, reject) => {
    stream.once('finish', resolve);
    stream.once('error', reject);
  });
  finished.catch(() => {});
  try {
    const running = handler(event, stream, context);
    if (!running || typeof running.then !== 'function') {
      throw 'Streaming does not support non-async handlers.';
    }
    if (await running !== undefined) console.warn('Streaming handlers ignore return values.');
    if (!stream.writableEnded) throw 'Response stream is not finished.';
    await finished;
    if (!current.first()) return;
    if (stream.tooLarge) current.tooLarge();
    else current.sendBytes(stream.bytes());
  } catch (error) {
    current.failed(error);
  }
}

// ---------------------------------------------------------------------------
// Code that fails where nobody waits for it. The exit statuses are AWS's.

function dieOf(what, error, status) {
  logError(what, error);
  if (call) call.die(error);
  else if (!handler) sendError(FRAME.INIT_ERROR, [], error, false);
  exit(status);
}

process.on('uncaughtException', (error) => dieOf('Uncaught Exception', error, 129));

process.on('unhandledRejection', (reason) => {
  const error = new UnhandledPromiseRejection(reason);
  error.reason = reason;
  dieOf('Unhandled Promise Rejection', error, 128);
});

// ---------------------------------------------------------------------------
// Warm-up: what the first function would otherwise wait for. Then wait.

// warmUp goes the way of an assignment and of some events with nobody at the
// other end, so that the code of it is compiled and both module loaders are up.
async function warmUp() {
  require('node:timers');
  require('node:events');
  patchConsole({});
  new Module('/warm')._compile('exports.warm = async (event) => event;', '/warm.js');
  await import('data:text/javascript,import fs from "node:fs"; export const warm = fs;');
  contextBase = {};
  for (const fn of [async (event) => event, (_event, _context, callback) => callback(new Error('warm'))]) {
    handler = fn;
    for (let i = 0; i < 20; i++) {
      onEvent(parse('{"id":"warm","deadline":1,"arn":"warm"}'), '{"warm":["up",1,null,{"x":"é"}]}');
      await undefined; // the answer of an async handler is sent here
    }
  }
  handler = contextBase = requestId = tenantId = whenIdle = undefined;
  delete globalThis[REQUEST_ID];
}

warmUp().then(() => {
  warming = false;
  send(FRAME.BOOTED, [], `node ${process.version}`, false);
  later();
});

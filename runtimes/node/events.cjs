// Part of the Node.js bootstrap: from an event to its answer.

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
  stream; // of a streaming handler
  returned = false; // the streaming handler did

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

  #send(payload) {
    this.#close();
    if (payload.length > MAX_PAYLOAD / 3 && Buffer.byteLength(payload) > MAX_PAYLOAD) sendTooLarge(this.id);
    else send(FRAME.RESPONSE, [this.id], payload, true);
    later();
  }

  // endStream sends that the streamed answer has ended; all of it was sent.
  endStream() {
    if (this.answered) return;
    this.#close();
    for (const frame of this.stream.beginning()) writeAll(HOST_FD, frame, 0, frame.length);
    send(FRAME.END, [''], '', true);
    later();
  }

  // fail sends an error.
  fail(error) {
    if (this.answered) return;
    logError('Invoke Error', error);
    this.#close();
    this.#sendError(error, true, later);
  }

  // die sends an error of code that nobody waits for, then ends the process.
  die(error, end) {
    if (this.answered) return end();
    this.#close();
    this.#sendError(error, false, end);
  }

  // #sendError sends an error in place of an answer, or at the end of one that
  // was begun: behind what is being sent of it.
  #sendError(error, next, then) {
    const { stream } = this;
    if (!stream?.begun) {
      sendError(FRAME.ERROR, [this.id], error, next);
      then();
      return;
    }
    stream.whenFlushed(() => {
      stream.destroy();
      sendError(FRAME.END, [], error, next);
      then();
    });
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
  if (current.returned) {
    current.failed('Response stream is not finished.');
  } else if (isAsync || isStreaming) {
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

// ---------------------------------------------------------------------------
// Code that fails where nobody waits for it. The exit statuses are AWS's.

function dieOf(what, error, status) {
  logError(what, error);
  if (call) {
    call.die(error, () => exit(status));
    return;
  }
  if (!initialized) sendError(FRAME.INIT_ERROR, [], error, false);
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
  await warmImport();
  contextBase = {};
  for (const fn of [async (event) => event, (_event, _context, callback) => callback(new Error('warm'))]) {
    handler = fn;
    for (let i = 0; i < 20; i++) {
      onEvent(parse('{"id":"warm","deadline":1,"arn":"warm"}'), '{"warm":["up",1,null,{"x":"é"}]}');
      await undefined; // the answer of an async handler is sent here
    }
  }
}

// warmImport takes a module from a file, as the first function's would be: that
// starts the threads that read files, and compiles what looks for packages.
async function warmImport() {
  const dir = fs.mkdtempSync('/tmp/.lambent-');
  try {
    const file = path.join(dir, 'warm.mjs');
    fs.writeFileSync(file, 'import fs from "node:fs"; export const warm = fs;');
    await import(pathToFileURL(file));
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
}

// begin forgets the warm-up and waits for the real thing. A warm-up that failed,
// in a version of Node nobody has seen yet, has cost time and nothing else.
function begin() {
  handler = contextBase = call = requestId = tenantId = whenIdle = undefined;
  delete globalThis[REQUEST_ID];
  warming = false;
  sayBooted();
}

// sayBooted tells the host that this runtime waits for code, at first and
// whenever it asks.
function sayBooted() {
  send(FRAME.BOOTED, [], `node ${process.version}`, false);
  later();
}

if (process.env.LAMBENT_AWAITED) begin(); // a call waits
else warmUp().then(begin, begin);

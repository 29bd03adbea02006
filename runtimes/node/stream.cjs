// Part of the Node.js bootstrap: handlers that stream their answer.

// ---------------------------------------------------------------------------
// The global awslambda: what the function's code sees of streaming.

const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');
const DEFAULT_CONTENT_TYPE = 'application/octet-stream';

// streamifyResponse marks a handler as one that gets a stream for its answer:
// (event, responseStream, context).
function streamifyResponse(fn, options) {
  fn[STREAMING] = 'response';
  fn[HIGH_WATER_MARK] = parseInt(options?.highWaterMark) || undefined;
  return fn;
}

function isStreamingHandler(fn) {
  const mark = fn[STREAMING];
  if (mark === undefined || mark === null || mark === false) return false;
  if (mark === 'response') return true;
  throw new MalformedStreamingHandler('Only response streaming is supported.');
}

// HttpResponseStream puts status, headers and cookies of an HTTP answer before
// the first byte of it, as JSON that ends with eight NUL bytes.
class HttpResponseStream {
  static from(stream, prelude) {
    stream.setContentType('application/vnd.awslambda.http-integration-response');
    const text = stringify(prelude);
    stream._onBeforeFirstWrite = (write) => {
      write(text);
      write(new Uint8Array(8));
    };
    return stream;
  }
}

// ---------------------------------------------------------------------------
// The stream.

// ResponseStream sends what is written to it to the host: BEGIN with the first
// bytes, then CHUNKs. END is the event's, since the handler may still fail.
class ResponseStream extends Writable {
  #id;
  #contentType = DEFAULT_CONTENT_TYPE;
  #touched = false; // write was called: the type is settled
  #sending = false;
  #flushed; // what waits until nothing is being sent
  begun = false; // the host was told that there is an answer
  _onBeforeFirstWrite;

  constructor(id, highWaterMark) {
    super(highWaterMark ? { highWaterMark } : undefined);
    this.#id = id;
  }

  setContentType(type) {
    if (this.#touched) throw new InvalidStreamingOperation('Cannot set content-type, too late.');
    this.#contentType = String(type);
  }

  write(chunk, encoding, callback) {
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) chunk = stringify(chunk);
    if (!this.#touched) {
      this.#touched = true;
      if (typeof this._onBeforeFirstWrite === 'function') this._onBeforeFirstWrite((ch) => super.write(ch));
    }
    return super.write(chunk, encoding, callback);
  }

  end(chunk, encoding, callback) {
    // Writable.end writes by itself; what is before the first byte must be too.
    if (chunk !== undefined && chunk !== null && typeof chunk !== 'function') {
      this.write(chunk, typeof encoding === 'string' ? encoding : undefined);
      return super.end(typeof encoding === 'function' ? encoding : callback);
    }
    return super.end(typeof chunk === 'function' ? chunk : typeof encoding === 'function' ? encoding : callback);
  }

  _write(chunk, _encoding, done) { this.#send([chunk], done); }

  _writev(chunks, done) { this.#send(chunks.map((c) => c.chunk), done); }

  // beginning is the BEGIN of the answer, where it was not sent yet.
  beginning() {
    if (this.begun) return [];
    this.begun = true;
    this.#touched = true;
    return [head(FRAME.BEGIN, [this.#id, this.#contentType], 0)];
  }

  #send(chunks, done) {
    let size = 0;
    for (const c of chunks) size += c.length;
    const frames = this.beginning();
    if (size > 0) frames.push(head(FRAME.CHUNK, [], size), ...chunks);
    if (frames.length === 0) { done(); return; }
    this.#sending = true;
    sendLater(frames, () => {
      this.#sending = false;
      const flushed = this.#flushed;
      this.#flushed = undefined;
      if (flushed) flushed();
      done();
    });
  }

  // whenFlushed calls back when nothing is being sent, at once if that is now.
  // What was not begun to be sent by then is never sent.
  whenFlushed(callback) {
    const before = this.#flushed;
    if (!this.#sending) callback();
    else this.#flushed = before ? () => { before(); callback(); } : callback;
  }
}

// runStreaming runs a streaming handler. The answer ends when both the handler
// and its stream have.
async function runStreaming(current, event, context) {
  const stream = current.stream = new ResponseStream(current.id, handler[HIGH_WATER_MARK]);
  const finished = new Promise((resolve, reject) => {
    stream.once('finish', resolve);
    stream.once('error', reject);
    stream.once('close', () => reject('Response stream is not finished.')); // destroyed; after finish it is too late
  });
  finished.catch(() => {});
  try {
    const running = handler(event, stream, context);
    if (!running || typeof running.then !== 'function') {
      throw 'Streaming does not support non-async handlers.';
    }
    if (await running !== undefined) console.warn('Streaming handlers ignore return values.');
    current.returned = true;
    await finished;
    if (current.first()) current.endStream();
  } catch (error) {
    current.failed(error);
  }
}

// The Node.js bootstrap of lambent: it runs one function inside a sandbox and
// talks to the host over file descriptor 3, in the frames that
// internal/runtimeapi/frame describes. What the function sees is AWS's Node.js
// runtime: handler forms, context, error JSON, console format.
//
// It is one script in five files, put together in this order: frames, log, init,
// stream, events.
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
  ASSIGN: 0x01, EVENT: 0x02, PING: 0x03,
  BOOTED: 0x10, READY: 0x11, INIT_ERROR: 0x12, RESPONSE: 0x13, ERROR: 0x14,
  BEGIN: 0x20, CHUNK: 0x21, END: 0x22,
};
const HEADER_SIZE = 5;
const MAX_PAYLOAD = 6 * 1024 * 1024 + 100; // AWS's bound for an answer, in bytes

// What is used after the user's code has run is taken now: code that patches
// these for itself does not change how its own answers are sent.
const { parse, stringify } = JSON;
const { now } = Date;
const exit = process.exit.bind(process);
const { readSync, writeSync, writev } = fs;
const { setImmediate, setTimeout } = globalThis;

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

// putShorts puts short strings where the body of a frame begins, and tells where
// they end.
function putShorts(buf, shorts) {
  let at = HEADER_SIZE;
  for (const s of shorts) {
    const n = buf.write(s, at + 1, Math.min(255, buf.length - at - 1));
    buf[at] = n;
    at += 1 + n;
  }
  return at;
}

// head is a frame's own bytes, of which size more are to follow.
function head(type, shorts, size) {
  const buf = Buffer.allocUnsafe(HEADER_SIZE + shorts.length * 256);
  const end = putShorts(buf, shorts);
  buf.writeUInt32LE(end - 4 + size, 0);
  buf[4] = type;
  return buf.subarray(0, end);
}

// sendLater writes buffers in order without holding up the event loop, which it
// keeps going; done is called when all of them are out. The host takes no more
// than the function's caller does: a slow one makes this wait, in a thread of
// libuv's. One at a time.
function sendLater(buffers, done) {
  writev(HOST_FD, buffers, (err, n) => {
    if (err && err.code === 'EAGAIN') { setTimeout(sendLater, 1, buffers, done); return; }
    if (err && err.code !== 'EINTR') exit(1); // the host is gone
    let k = 0;
    while (k < buffers.length && n >= buffers[k].length) n -= buffers[k++].length;
    if (k === buffers.length) { done(); return; }
    const left = buffers.slice(k);
    left[0] = left[0].subarray(n ?? 0);
    sendLater(left, done);
  });
}

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

  let at = putShorts(buf, shorts);
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
    const head = parse(input.toString('utf8', from + 4, headEnd));
    const payload = input.toString('utf8', headEnd, to);
    // What has happened to the function's sockets and timers meanwhile it hears
    // of before its event; after a short wait that is not worth a loop's turn.
    if (now() - since < LONG_WAIT) onEvent(head, payload);
    else setImmediate(onEvent, head, payload);
  } else if (type === FRAME.ASSIGN) {
    onAssign(parse(input.toString('utf8', from, to)));
  } else if (type === FRAME.PING) {
    sayBooted();
  } else {
    exit(1);
  }
}

const LONG_WAIT = 5; // milliseconds

// later lets what the function has left to do now be done, then waits.
const later = () => { if (!warming) setImmediate(next); };

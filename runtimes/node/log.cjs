// Part of the Node.js bootstrap: what errors and the log look like.

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
const InvalidStreamingOperation = runtimeError('InvalidStreamingOperation');

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

// Part of the Node.js bootstrap: from an assignment to a handler.

// ---------------------------------------------------------------------------
// Init.

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');

let handler;
let initialized = false; // the host was told that the function is ready
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
  // A promise the module left rejected, and what it put off to the next turn of
  // the loop, fail the init and not the first event.
  setImmediate(() => {
    initialized = true;
    send(FRAME.READY, [], '', false);
    later();
  });
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

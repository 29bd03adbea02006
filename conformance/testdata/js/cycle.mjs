// One function's life as a program with the AWS SDK for JavaScript lives it:
//
//     node cycle.mjs NAME RUNTIME HANDLER PACKAGE
//
// PACKAGE holds the kit. The endpoint and the credentials come from the
// environment, as for any program. Anything unexpected ends it with a status
// other than 0.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import {
  CreateFunctionCommand, DeleteFunctionCommand, GetFunctionCommand, InvokeCommand, LambdaClient, ListFunctionsCommand,
  ResourceConflictException, ResourceNotFoundException, UpdateFunctionCodeCommand, UpdateFunctionConfigurationCommand,
  waitUntilFunctionActiveV2, waitUntilFunctionUpdatedV2,
} from '@aws-sdk/client-lambda';

const [FunctionName, Runtime, Handler, file] = process.argv.slice(2);
const ZipFile = fs.readFileSync(file);
const client = new LambdaClient({ maxAttempts: 1 });
const wait = { client, maxWaitTime: 60, minDelay: 0.02, maxDelay: 0.2 };
const call = async (event, more) => {
  const out = await client.send(new InvokeCommand({ FunctionName, Payload: JSON.stringify(event), ...more }));
  return { out, answer: JSON.parse(out.Payload.transformToString()) };
};

const create = {
  FunctionName, Runtime, Handler, Role: process.env.ROLE ?? 'arn:aws:iam::123456789012:role/js', Code: { ZipFile }, Timeout: 10,
  Environment: { Variables: { COLOUR: 'blue' } },
};
const created = await client.send(new CreateFunctionCommand(create));
assert.equal(created.$metadata.httpStatusCode, 201);
assert.equal(created.State, 'Pending');
await assert.rejects(client.send(new CreateFunctionCommand(create)), ResourceConflictException);
await waitUntilFunctionActiveV2(wait, { FunctionName });

const value = { text: 'Grüße 🌍', list: [1, null, true] };
const first = await call({ op: 'echo', value }, { LogType: 'Tail' });
assert.equal(first.out.StatusCode, 200);
assert.equal(first.out.ExecutedVersion, '$LATEST');
assert.deepEqual(first.answer, value);
assert.match(Buffer.from(first.out.LogResult, 'base64').toString(), /^REPORT RequestId: /m);
assert.equal((await call({ op: 'env' })).answer.COLOUR, 'blue');

const failed = await call({ op: 'throw' });
assert.equal(failed.out.StatusCode, 200);
assert.equal(failed.out.FunctionError, 'Unhandled');
assert.equal(failed.answer.errorMessage, 'boom');

await client.send(new UpdateFunctionConfigurationCommand({ FunctionName, Environment: { Variables: { COLOUR: 'red' } } }));
await waitUntilFunctionUpdatedV2(wait, { FunctionName });
assert.equal((await call({ op: 'env' })).answer.COLOUR, 'red');
const updated = await client.send(new UpdateFunctionCodeCommand({ FunctionName, ZipFile }));
assert.equal(updated.LastUpdateStatus, 'InProgress');
await waitUntilFunctionUpdatedV2(wait, { FunctionName });

const { Configuration } = await client.send(new GetFunctionCommand({ FunctionName }));
assert.equal(Configuration.State, 'Active');
assert.equal(Configuration.Runtime, Runtime);
const { Functions } = await client.send(new ListFunctionsCommand({}));
assert.ok(Functions.some((f) => f.FunctionName === FunctionName));

await client.send(new DeleteFunctionCommand({ FunctionName }));
await assert.rejects(call({}), (e) => {
  assert.ok(e instanceof ResourceNotFoundException);
  assert.equal(e.$metadata.httpStatusCode, 404);
  assert.match(e.message, /^Function not found: arn:aws:lambda:us-east-1:\d{12}:function:/);
  return true;
});
console.log(`${FunctionName}: all as on AWS`);

// Answers that are streamed, as a program with the AWS SDK for JavaScript reads
// them:
//
//     node stream.mjs NAME PACKAGE
//
// PACKAGE holds testdata/kit/stream.mjs as index.mjs. Anything unexpected ends it
// with a status other than 0.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import {
  CreateFunctionCommand, DeleteFunctionCommand, InvokeCommand, InvokeWithResponseStreamCommand, LambdaClient, ResourceNotFoundException,
  waitUntilFunctionActiveV2,
} from '@aws-sdk/client-lambda';

const [FunctionName, file] = process.argv.slice(2);
const client = new LambdaClient({ maxAttempts: 1 });
const stream = (event, more) => client.send(new InvokeWithResponseStreamCommand({ FunctionName, Payload: JSON.stringify(event), ...more }));
const read = async (out) => {
  let text = '';
  let complete;
  for await (const event of out.EventStream) {
    assert.equal(complete, undefined, 'nothing comes after InvokeComplete');
    if (event.PayloadChunk) text += Buffer.from(event.PayloadChunk.Payload).toString();
    else if (event.InvokeComplete) complete = event.InvokeComplete;
    else assert.fail(`an unknown event: ${JSON.stringify(event)}`);
  }
  assert.ok(complete, 'InvokeComplete came');
  return { text, complete };
};

await assert.rejects(stream({}), ResourceNotFoundException);
await client.send(new CreateFunctionCommand({
  FunctionName, Runtime: 'nodejs22.x', Handler: 'index.handler', Role: 'arn:aws:iam::123456789012:role/js',
  Code: { ZipFile: fs.readFileSync(file) }, Timeout: 3,
}));
await waitUntilFunctionActiveV2({ client, maxWaitTime: 60, minDelay: 0.02, maxDelay: 0.2 }, { FunctionName });

const parts = await stream({ op: 'parts', parts: 3, ms: 1 }, { LogType: 'Tail' });
assert.equal(parts.StatusCode, 200);
assert.equal(parts.ExecutedVersion, '$LATEST');
assert.equal(parts.ResponseStreamContentType, 'application/vnd.amazon.eventstream');
const { text, complete } = await read(parts);
assert.equal(text, 'part 0\npart 1\npart 2\n');
assert.equal(complete.ErrorCode, undefined);
assert.match(Buffer.from(complete.LogResult, 'base64').toString(), /^REPORT RequestId: /m);

// The function writes on until it is timed out: what is read before that was not
// held back.
const endless = await stream({ op: 'endless' });
let first;
const rest = await read({ EventStream: (async function* () {
  for await (const event of endless.EventStream) { first ??= event; yield event; }
})() });
assert.match(Buffer.from(first.PayloadChunk.Payload).toString(), /^part 0\n/);
assert.equal(rest.complete.ErrorCode, 'Unhandled');
assert.equal(JSON.parse(rest.complete.ErrorDetails).errorType, 'Sandbox.Timedout');

const late = await read(await stream({ op: 'late' }));
assert.equal(late.text, 'part 0\n');
assert.equal(JSON.parse(late.complete.ErrorDetails).errorMessage, 'late');

const whole = await client.send(new InvokeCommand({ FunctionName, Payload: '{"op":"prelude"}' }));
assert.equal(whole.Payload.transformToString(), '{"statusCode":201,"headers":{"X-A":"b"}}' + '\0'.repeat(8) + '{"body":1}');

await client.send(new DeleteFunctionCommand({ FunctionName }));
console.log(`${FunctionName}: all as on AWS`);

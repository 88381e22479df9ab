// Sends usage to a tallyman agent: one event for each quantity, in one request.
//
//     npm install
//     node send_usage.js 127.0.0.1:7450 CUSTOMER DIMENSION WORK QUANTITY...
//
// WORK names what was done, as an order's number does. The event ids are made of it, so that whoever sends the same work
// again, after a crash for instance, bills it once.
const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const options = { includeDirs: [path.join(__dirname, "../../proto")], keepCase: true, longs: String, defaults: true };
const proto = grpc.loadPackageDefinition(loader.loadSync("tallyman/v1/tallyman.proto", options)).tallyman.v1;

// With these the request may or may not have arrived. Any other says that to send it again is of no use.
const { UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED } = grpc.status;
const RETRY = new Set([UNAVAILABLE, RESOURCE_EXHAUSTED, DEADLINE_EXCEEDED]);

const record = (usage, request, timeout) =>
  new Promise((resolve, reject) => {
    const done = (error, answer) => (error ? reject(error) : resolve(answer));
    usage.Record(request, { deadline: Date.now() + timeout }, done);
  });

async function send(usage, request, patience = 60_000) {
  const giveUp = Date.now() + patience;
  for (let pause = 100; ; pause = Math.min(5_000, pause * 2)) {
    try {
      return await record(usage, request, Math.max(100, Math.min(10_000, giveUp - Date.now())));
    } catch (error) {
      const wait = pause * (0.5 + Math.random() / 2);
      if (!RETRY.has(error.code) || Date.now() + wait >= giveUp) throw error;
      console.error(`${grpc.status[error.code]}, again in ${Math.round(wait)} ms`);
      await sleep(wait);
    }
  }
}

async function main(address, customer, dimension, work, ...quantities) {
  // Quantities are 64-bit: as text they lose nothing.
  const event = (quantity, number) => ({ customer, dimension, quantity, event_id: `${work}-${number}` });
  const usage = new proto.UsageService(address, grpc.credentials.createInsecure());
  const answer = await send(usage, { events: quantities.map(event) });
  console.log(`accepted ${answer.accepted}, duplicates ${answer.duplicates}, rejected ${answer.rejected.length}`);
  // These did not count; the others did.
  for (const rejection of answer.rejected) console.error(`event ${rejection.index}: ${rejection.message}`);
  process.exitCode = answer.rejected.length ? 1 : 0;
  usage.close();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(`not sent: ${grpc.status[error.code]}: ${error.details}`);
  process.exit(1);
});

// A model server for tool_loop.py over node-llama-cpp: node peer_server.mjs FILE THREADS CONTEXT
// POST {"tokens": [...], "count": n} -> {"tokens": [...]}. One context sequence stays open between requests; what the
// new prompt shares with it is not evaluated again. Prints its port. PEER: see peer_module.mjs.
import { createServer } from "node:http";
import { llamaOf } from "./peer_module.mjs";

const [file, threads, contextSize] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const { getLlama, LlamaLogLevel } = await llamaOf();

const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: threads });
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
const context = await model.createContext({ contextSize, batchSize: 512, threads: { ideal: threads, min: threads } });
const sequence = context.getSequence();

async function complete({ tokens, count }) {
  const held = sequence.contextTokens;
  let shared = 0;
  while (shared < held.length && shared < tokens.length - 1 && held[shared] === tokens[shared]) shared++;
  if (held.length > shared) await sequence.eraseContextTokenRanges([{ start: shared, end: held.length }]);
  const made = [];
  for await (const token of sequence.evaluate(tokens.slice(shared), { temperature: 0, yieldEogToken: true })) {
    made.push(token);
    if (made.length >= count) break;
  }
  return { tokens: made, evaluated: tokens.length - shared };
}

const server = createServer((request, response) => {
  let body = "";
  request.on("data", (part) => (body += part));
  request.on("end", async () => {
    try {
      const answer = JSON.stringify(await complete(JSON.parse(body)));
      response.writeHead(200, { "content-type": "application/json", "content-length": Buffer.byteLength(answer) });
      response.end(answer);
    } catch (error) {
      response.writeHead(500);
      response.end(String(error));
    }
  });
});
server.listen(0, "127.0.0.1", () => console.log(server.address().port));

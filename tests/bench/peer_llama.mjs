// Measures llama.cpp through node-llama-cpp's prebuilt binary: node peer_llama.mjs FILE THREADS PROMPT GENERATE DEPTH
// Prints one JSON line {"prefill":{...},"decode":{...}} with wall and processor seconds per token.
// PEER: see peer_module.mjs.
import { llamaOf } from "./peer_module.mjs";

const [file, threads, prompt, generate, depth] = [process.argv[2], ...process.argv.slice(3).map(Number)];
const { getLlama, LlamaLogLevel } = await llamaOf();
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: threads });
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
const context = await model.createContext({ contextSize: depth + prompt + generate + 64, batchSize: 512, threads: { ideal: threads, min: threads } });
const sequence = context.getSequence();
let state = 1;
const draw = (n) => Array.from({ length: n }, () => (state = (state * 1103515245 + 12345) % 2147483648) % 150000);

async function timed(count, run) {
  const cpu = process.cpuUsage(), start = process.hrtime.bigint();
  await run();
  const wall = Number(process.hrtime.bigint() - start) / 1e9, used = process.cpuUsage(cpu);
  return { wall: wall / count, cpu: (used.user + used.system) / 1e6 / count };
}

const out = {};
if (depth > 0) await sequence.evaluateWithoutGeneratingNewTokens(draw(depth));
await sequence.evaluateWithoutGeneratingNewTokens(draw(4));  // Warm up.
if (prompt > 0) out.prefill = await timed(prompt, () => sequence.evaluateWithoutGeneratingNewTokens(draw(prompt)));
if (generate > 0) {
  const first = draw(1);
  let left = generate;
  const options = { temperature: 0, yieldEogToken: true };
  out.decode = await timed(generate, async () => {
    for await (const _ of sequence.evaluate(first, options)) if (--left <= 0) break;
  });
}
console.log(JSON.stringify(out));
process.exit(0);

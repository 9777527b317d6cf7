// llama.cpp through node-llama-cpp's prebuilt binary, from loading to the first token: node peer_load.mjs FILE THREADS
// Prints wall and processor seconds. PEER: as in peer_llama.mjs.
import { llamaOf } from "./peer_module.mjs";

const [file, threads] = [process.argv[2], Number(process.argv[3])];
const { getLlama, LlamaLogLevel } = await llamaOf();
const cpu = process.cpuUsage(), start = process.hrtime.bigint();
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: threads });
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
const context = await model.createContext({ contextSize: 512, threads: { ideal: threads, min: threads } });
for await (const _ of context.getSequence().evaluate(model.tokenize("the"), { temperature: 0, yieldEogToken: true })) break;
const used = process.cpuUsage(cpu);
console.log(Number(process.hrtime.bigint() - start) / 1e9, (used.user + used.system) / 1e6);
process.exit(0);

// Finds node-llama-cpp, installed with `npm i node-llama-cpp` in the folder given by PEER (default /tmp/peer).
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

export async function llamaOf() {
  const folder = resolve(process.env.PEER ?? "/tmp/peer");
  let entry;
  try {
    entry = createRequire(folder + "/package.json").resolve("node-llama-cpp");
  } catch {
    entry = folder + "/node_modules/node-llama-cpp/dist/index.js";
  }
  return import(pathToFileURL(entry).href);
}

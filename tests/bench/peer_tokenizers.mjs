// peer_tokenizers.mjs FOLDER RUNS TEXT_FILE...: the Hugging Face tokenizer for JavaScript, measured as bench_tokenizer
// measures ours. FOLDER holds tokenizer.json and tokenizer_config.json; $PEER holds node_modules.
import {pathToFileURL} from 'node:url';
import fs from 'node:fs';
import path from 'node:path';

const package_folder = path.join(process.env.PEER, 'node_modules/@huggingface/tokenizers');
const {Tokenizer} = await import(pathToFileURL(path.join(package_folder, 'dist/tokenizers.mjs')));
const [folder, runs, ...names] = process.argv.slice(2);
const seconds = () => { const u = process.cpuUsage(); return (u.user + u.system) / 1e6; };
const median = list => list.sort((a, b) => a - b)[list.length >> 1];
const json = name => JSON.parse(fs.readFileSync(path.join(folder, name), 'utf8'));

let start = seconds();
const tokenizer = new Tokenizer(json('tokenizer.json'), json('tokenizer_config.json'));
const out = {load_seconds: seconds() - start, texts: {}};
for (const name of names) {
  const text = fs.readFileSync(name, 'utf8');
  const times = [];
  let tokens = 0;
  for (let i = 0; i < Number(runs); ++i) {
    start = seconds();
    tokens = tokenizer.encode(text, {add_special_tokens: false}).ids.length;
    times.push(seconds() - start);
  }
  const middle = median(times);
  out.texts[name] = {bytes: Buffer.byteLength(text), tokens, seconds: middle, mb_per_second: Buffer.byteLength(text) / 1e6 / middle};
}
console.log(JSON.stringify(out));

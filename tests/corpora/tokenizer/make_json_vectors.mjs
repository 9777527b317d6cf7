// Makes json_vectors.tar.xz: small tokenizer.json files of every kind that Kontor reads, and the ids that the Hugging
// Face tokenizers library (Rust) gives for a list of texts. The vocabularies are trained on this project's own
// documentation.
//
// usage: node make_json_vectors.mjs OUT_DIR   (needs spm_train from Debian's sentencepiece, and in OUT_DIR/..:
// npm i @anush008/tokenizers)
import {execFileSync} from 'node:child_process';
import {createRequire} from 'node:module';
import fs from 'node:fs';
import path from 'node:path';

const out = path.resolve(process.argv[2]);
const {Tokenizer} = createRequire(path.join(out, '..', 'x.js'))('@anush008/tokenizers');
const root = path.resolve(path.dirname(new URL(import.meta.url).pathname), '../../..');
fs.mkdirSync(out, {recursive: true});

const training = fs.readdirSync(path.join(root, 'docs')).filter(f => f.endsWith('.md')).sort()
  .map(f => fs.readFileSync(path.join(root, 'docs', f), 'utf8')).join('\n') + '\nÄrger über Größe, déjà vu, naïve café, 中文 文字 日本語\n';
fs.writeFileSync(path.join(out, 'training.txt'), training);

// --- SentencePiece models, read from their protocol buffers ---
function fields(bytes) {
  const all = [];
  let at = 0;
  const varint = () => { let v = 0, shift = 0; for (;;) { const b = bytes[at++]; v += (b & 127) * 2 ** shift; if (b < 128) return v; shift += 7; } };
  while (at < bytes.length) {
    const tag = varint(), field = tag >> 3;
    if ((tag & 7) === 2) { const n = varint(); all.push([field, bytes.subarray(at, at + n)]); at += n; }
    else if ((tag & 7) === 5) { all.push([field, bytes.readFloatLE(at)]); at += 4; }
    else if ((tag & 7) === 0) all.push([field, varint()]);
    else throw new Error('wire type');
  }
  return all;
}
function train(name, options) {
  execFileSync('spm_train', [`--input=${out}/training.txt`, `--model_prefix=${out}/${name}`, ...options], {stdio: 'ignore'});
  const model = fields(fs.readFileSync(`${out}/${name}.model`));
  const pieces = model.filter(([f]) => f === 1).map(([, b]) => {
    const p = Object.fromEntries(fields(b));
    return {text: p[1].toString('utf8'), score: p[2] ?? 0, type: p[3] ?? 1};
  });
  const map = fields(model.find(([f]) => f === 3)[1]).find(([f]) => f === 2)?.[1] ?? Buffer.alloc(0);
  for (const end of ['model', 'vocab']) fs.rmSync(`${out}/${name}.${end}`);
  return {pieces, map: map.toString('base64')};
}
const uni = train('unigram', ['--model_type=unigram', '--vocab_size=900', '--pad_id=0', '--eos_id=1', '--unk_id=2', '--bos_id=-1', '--character_coverage=0.999']);
const bpe = train('bpe', ['--model_type=bpe', '--vocab_size=1000', '--byte_fallback=true', '--split_digits=true', '--normalization_rule_name=identity',
  '--remove_extra_whitespaces=false', '--allow_whitespace_only_pieces=true', '--character_coverage=0.999']);
fs.rmSync(`${out}/training.txt`);

const special = (id, content, more = {}) => ({id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true, ...more});
const seq = list => ({type: 'Sequence', normalizers: list});
const files = {};
const add = (name, more) => { files[name] = {version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, ...more}; };

const uniVocab = uni.pieces.map(p => [p.text, p.score]);
const bytes = Array.from({length: 256}, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
add('unigram-t5', {
  added_tokens: [special(0, '<pad>'), special(1, '</s>'), special(2, '<unk>'), special(uniVocab.length, '<extra_id_0>', {lstrip: true})],
  normalizer: {type: 'Precompiled', precompiled_charsmap: uni.map},
  pre_tokenizer: {type: 'Sequence', pretokenizers: [{type: 'WhitespaceSplit'}, {type: 'Metaspace', replacement: '▁', prepend_scheme: 'always', split: true}]},
  post_processor: {type: 'TemplateProcessing', single: [{Sequence: {id: 'A', type_id: 0}}, {SpecialToken: {id: '</s>', type_id: 0}}], pair: [{Sequence: {id: 'A', type_id: 0}}, {Sequence: {id: 'B', type_id: 0}}], special_tokens: {'</s>': {id: '</s>', ids: [1], tokens: ['</s>']}}},
  model: {type: 'Unigram', unk_id: 2, vocab: uniVocab, byte_fallback: false},
});
add('unigram-bytes', {
  added_tokens: [special(1, '</s>'), special(2, '<unk>')],
  normalizer: seq([{type: 'NFKC'}, {type: 'Replace', pattern: {Regex: ' {2,}'}, content: '▁'}]),
  pre_tokenizer: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false},
  model: {type: 'Unigram', unk_id: 2, vocab: [...uniVocab, ...bytes.map(b => [b, -20])], byte_fallback: true},
});

const bpeVocab = Object.fromEntries(bpe.pieces.map((p, i) => [p.text, i]));
const rank = new Map(bpe.pieces.filter(p => p.type === 1).map((p, i) => [p.text, i]));
const merges = [];
for (const text of rank.keys()) {
  const chars = [...text], splits = [];
  for (let i = 1; i < chars.length; ++i) {
    const l = chars.slice(0, i).join(''), r = chars.slice(i).join('');
    if (rank.has(l) && rank.has(r)) splits.push([l, r]);
  }
  splits.sort((a, b) => rank.get(a[0]) - rank.get(b[0]) || rank.get(a[1]) - rank.get(b[1]));
  merges.push(...splits);
}
const llama = {type: 'BPE', dropout: null, unk_token: '<unk>', continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: true, byte_fallback: true, vocab: bpeVocab, merges};
const llamaAdded = [special(0, '<unk>'), special(1, '<s>'), special(2, '</s>')];
add('bpe-llama2', {
  added_tokens: llamaAdded,
  normalizer: seq([{type: 'Prepend', prepend: '▁'}, {type: 'Replace', pattern: {String: ' '}, content: '▁'}]),
  post_processor: {type: 'TemplateProcessing', single: [{SpecialToken: {id: '<s>', type_id: 0}}, {Sequence: {id: 'A', type_id: 0}}], pair: [], special_tokens: {'<s>': {id: '<s>', ids: [1], tokens: ['<s>']}}},
  model: {...llama, merges: merges.map(m => m.join(' '))},
});
add('bpe-metaspace', {added_tokens: llamaAdded, pre_tokenizer: {type: 'Metaspace', replacement: '▁', prepend_scheme: 'first', split: false}, model: {...llama, ignore_merges: true}});
add('bpe-unknown', {
  added_tokens: llamaAdded.slice(0, 1), normalizer: seq([{type: 'NFD'}, {type: 'StripAccents'}, {type: 'Lowercase'}, {type: 'Strip', strip_left: true, strip_right: true}]),
  pre_tokenizer: {type: 'Sequence', pretokenizers: [{type: 'Whitespace'}, {type: 'Digits', individual_digits: false}, {type: 'Punctuation', behavior: 'Contiguous'}]},
  model: {...llama, byte_fallback: false},
});

// --- byte-level: 256 bytes and merges learned here ---
const alphabet = (() => { const t = []; let n = 256; for (let b = 0; b < 256; ++b) t.push(String.fromCodePoint((b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174 ? b : n++)); return t; })();
const spell = s => [...Buffer.from(s)].map(b => alphabet[b]);
function learn(count) {
  const words = new Map();
  for (const w of training.match(/ ?\p{L}+|\s+|[^\s\p{L}]/gu)) words.set(w, (words.get(w) ?? 0) + 1);
  const list = [...words].map(([w, n]) => [spell(w), n]), learned = [];
  for (let i = 0; i < count; ++i) {
    const pairs = new Map();
    for (const [w, n] of list) for (let k = 0; k + 1 < w.length; ++k) pairs.set(w[k] + ' ' + w[k + 1], (pairs.get(w[k] + ' ' + w[k + 1]) ?? 0) + n);
    const [best] = [...pairs].reduce((a, b) => b[1] > a[1] || (b[1] === a[1] && b[0] < a[0]) ? b : a);
    const [l, r] = best.split(' ');
    learned.push([l, r]);
    for (const entry of list) {
      const next = [];
      for (let k = 0; k < entry[0].length; ++k) if (entry[0][k] === l && entry[0][k + 1] === r) { next.push(l + r); ++k; } else next.push(entry[0][k]);
      entry[0] = next;
    }
  }
  return learned;
}
const byteMerges = learn(300);
const byteVocab = Object.fromEntries([...new Set([...alphabet, ...byteMerges.map(m => m.join(''))])].map((t, i) => [t, i]));
const n = Object.keys(byteVocab).length;
const byteModel = {type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: '', end_of_word_suffix: '', fuse_unk: false, byte_fallback: false, vocab: byteVocab, merges: byteMerges};
const byteAdded = [special(n, '<|end|>'), special(n + 1, '<think>', {special: false}), special(n + 2, '<mask>', {lstrip: true, rstrip: true}), special(n + 3, 'word', {special: false, single_word: true}), special(n + 4, '\t\t', {special: false})];
const level = {type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false};
const split = (re, behavior = 'Isolated', invert = false) => ({type: 'Split', pattern: {Regex: re}, behavior, invert});
const many = list => ({type: 'Sequence', pretokenizers: list});
const bytesFile = (name, pre, normalizer = null, model = byteModel) => add(name, {added_tokens: byteAdded, normalizer, pre_tokenizer: pre, decoder: level, model});
bytesFile('bytes-gpt2', {...level, use_regex: true});
bytesFile('bytes-prefix', {...level, use_regex: true, add_prefix_space: true});
bytesFile('bytes-llama3', many([split("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"), level]), null, {...byteModel, ignore_merges: true});
bytesFile('bytes-gpt4o', many([split("[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"), level]), {type: 'NFC'});
bytesFile('bytes-possessive', many([split("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}+| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|\\s*[\\r\\n]|\\s+(?!\\S)|\\s")  , level]));
bytesFile('bytes-deepseek-llm', many([split('[\r\n]'), split('\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯ]+'), split('\\s?[!-/:-~！-／：-～‘-‟　-。]+'), split('\\s+$'), split('[一-龥ࠀ-一가-퟿]+'), {type: 'Digits', individual_digits: true}, level]));
bytesFile('bytes-digits', many([{type: 'Digits', individual_digits: true}, split('(?<=\\p{Ll})(?=\\p{Lu})', 'Isolated'), split('[\\p{Han}&&[^中]]|\\b_', 'MergedWithPrevious'), split(' ', 'MergedWithNext'), level]), seq([{type: 'Replace', pattern: {String: '--'}, content: '-'}, {type: 'NFKD'}]));
bytesFile('bytes-inverted', many([split('\\w+|[^\\w\\s]+', 'Removed', true), {type: 'CharDelimiterSplit', delimiter: '.'}, split('[aeiou]{2,}?', 'Contiguous'), level]));

// --- WordPiece ---
const wordVocab = cased => {
  const set = new Set(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']);
  const text = cased ? training : training.toLowerCase().normalize('NFD').replace(/\p{Mn}/gu, '');
  for (const c of new Set(text.replace(/\s/g, ''))) if (c.codePointAt(0) < 0x3000 || '中文日'.includes(c)) { set.add(c); if (/[\p{L}\p{N}]/u.test(c)) set.add('##' + c); }
  if (cased) for (let c = 65; c < 91; ++c) set.add(String.fromCharCode(c));
  const counts = new Map();
  for (const w of text.match(/\p{L}+/gu)) counts.set(w, (counts.get(w) ?? 0) + 1);
  for (const [w, k] of counts) { if (k > 12) set.add(w); if (k > 6 && w.length > 5) set.add('##' + w.slice(-3)); }
  return Object.fromEntries([...set].map((t, i) => [t, i]));
};
const bert = (name, cased, normalizer) => add(name, {
  added_tokens: [special(0, '[PAD]'), special(1, '[UNK]'), special(2, '[CLS]'), special(3, '[SEP]'), special(4, '[MASK]', {lstrip: true})],
  normalizer, pre_tokenizer: {type: 'BertPreTokenizer'},
  post_processor: {type: 'TemplateProcessing', single: [{SpecialToken: {id: '[CLS]', type_id: 0}}, {Sequence: {id: 'A', type_id: 0}}, {SpecialToken: {id: '[SEP]', type_id: 0}}], pair: [],
    special_tokens: {'[CLS]': {id: '[CLS]', ids: [2], tokens: ['[CLS]']}, '[SEP]': {id: '[SEP]', ids: [3], tokens: ['[SEP]']}}},
  model: {type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab: wordVocab(cased)},
});
const bertNormalizer = more => ({type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true, ...more});
bert('wordpiece-uncased', false, bertNormalizer({}));
bert('wordpiece-cased', true, bertNormalizer({lowercase: false}));
bert('wordpiece-sequence', false, seq([bertNormalizer({strip_accents: false}), {type: 'NFC'}]));

// --- texts ---
const texts = ['', ' ', '  ', '\n', 'a', 'Hello world', ' Hello  world ', 'The agent reads the journal, then calls a tool.', "don't I'LL we've he'S", '12345 6,789.01 ½ ² Ⅷ ٣٤',
  'Ärger über Größe; déjà vu, naïve café', 'e\u0301a\u0308 o\u0302\u0323', '中文 文字 混合text日本語', '한국어 텍스트', 'Привет, мир!', 'مرحبا بالعالم', '😀😃 👩‍👩‍👧 emoji', 'ﬁ ﬂ ｆｕｌｌｗｉｄｔｈ ① ㎏', '\u00a0nbsp\u2003em\u3000wide\u2028line',
  'tab\tand\t\ttwo\r\nlines\n\n\nthree', 'a_b __init__ x__y', 'snake_case camelCase HTTPServer iPhone', 'http://127.0.0.1:8787/v1/chat?x=1&y=2', '{"key": [1, 2.5, null], "b": "\\n"}', 'if (a<b) { return a->b; } // x', '--flag=value -- -x',
  '▁literal▁mark ▁ here', '<0x41> <0x0A>', '<s>tool</s>', '<|end|>text<|end|>', 'x <mask> y <mask>z', 'word sword words word. (word)', '<think>plan</think>', '[CLS] a [SEP] b [MASK] c', '  [MASK]  ', 'hello </s> <unk> <pad> <extra_id_0> x', 'İstanbul ſtraße ǅ', 'zero\u200bwidth\u00adsoft', 'control\u0001\u007f char', '\ufeffbom', 'a\u0000b',
  'x'.repeat(150), 'aeiouaeiou bcd', 'the the the the', 'ααα βββ', '𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐐀𐐨', 'end with spaces   ', '   start with spaces', 'mixed \t \n \r\n end', 'A.B.C. e.g. i.e.', '“quotes” ‘single’ … — –', '1000000000000000000000000', '日本語の文章。次の文。', 'line one\n  indented\n\tline', 'tools/builtin/files.cpp:123', 'Straße STRASSE', 'q\u0307\u0323 \u1e69', '가각 \u1100\u1161', 'end\n', 'a\n\n', 'MiXeD CaSe WoRdS'];
let seed = 7;
const random = k => (seed = (seed * 1103515245 + 12345) % 2147483648) % k;
const atoms = [' ', '  ', '\n', '\r\n', '\t', "'s", "'LL", 'the', 'tool', 'Ü', 'é', 'e\u0301', '中', '日', '1', '23', '!', '...', '-', '_', '<s>', '<mask>', 'word', '▁', '😀', 'Ab', 'ſ', '\u00a0', 'ﬁ', '.', 'ing', 'Größe'];
for (let i = 0; i < 120; ++i) { let t = ''; for (let k = random(14); k >= 0; --k) t += atoms[random(atoms.length)]; texts.push(t); }

const lines = [];
for (const [name, file] of Object.entries(files)) {
  const text = JSON.stringify(file);
  fs.writeFileSync(path.join(out, name + '.json'), text);
  const tokenizer = Tokenizer.fromString(text);
  // The library takes the text "<0x41>" for a byte token of unigram models; SentencePiece and Kontor do not.
  for (const t of texts) if (name !== 'unigram-bytes' || !t.includes('<0x')) lines.push(JSON.stringify({file: name, text: t, ids: [...(await tokenizer.encode(t, null, {addSpecialTokens: false})).getIds()], ends: [...(await tokenizer.encode(t, null, {addSpecialTokens: true})).getIds()]}));
}
fs.writeFileSync(path.join(out, 'vectors.jsonl'), lines.join('\n') + '\n');
console.log(Object.keys(files).length, 'files', lines.length, 'vectors');

// audit-verify.mjs - an independent verifier of audit trails: written from services/audit/README.md alone, in another language, with other libraries.
//
//   node tests/verify/audit-verify.mjs [--key HEX] [--anchor FILE] [--witness VKEY] DIR [DIR2]
//   node tests/verify/audit-verify.mjs [--key HEX] --proof FILE
//
// Exit code 0: whole (or proven); 1: it is not; 2: it cannot be looked at.
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { blake2b } from '@noble/hashes/blake2';

const HEADER = 112, STORED_MAX = 65536, WRITE_MAX = 1 << 20, SECTOR = 512, NAME = 'redoubt-audit';
const H = (...parts) => {
  const h = blake2b.create({ dkLen: 32 });
  for (const p of parts) h.update(p);
  return Buffer.from(h.digest());
};
const sha = (...parts) => {
  const h = crypto.createHash('sha256');
  for (const p of parts) h.update(p);
  return h.digest();
};

// ---- the tree of RFC 6962 ----

const ZERO = Buffer.from([0]), ONE = Buffer.from([1]);
export const leafHash = (stored) => sha(ZERO, stored);
const nodeHash = (left, right) => sha(ONE, left, right);

// Roots of the perfect subtrees so far, largest first.
export class Tree {
  constructor(size = 0, pieces = []) {
    this.size = size;
    this.pieces = [...pieces];
  }

  append(leaf) {
    for (let n = this.size; n % 2 === 1; n = (n - 1) / 2) leaf = nodeHash(this.pieces.pop(), leaf);
    this.pieces.push(leaf);
    this.size++;
  }

  root() {
    if (this.pieces.length === 0) return sha();
    return this.pieces.reduceRight((right, left) => nodeHash(left, right));
  }
}

// RFC 9162, 2.1.3.2.
export function inTree(leaf, index, size, list, root) {
  if (index < 0n || index >= size) return false;
  let [fn, sn, r] = [index, size - 1n, leaf];
  for (const p of list) {
    if (sn === 0n) return false;
    if (fn % 2n === 1n || fn === sn) {
      r = nodeHash(p, r);
      while (fn % 2n === 0n && fn !== 0n) [fn, sn] = [fn / 2n, sn / 2n];
    } else r = nodeHash(r, p);
    [fn, sn] = [fn / 2n, sn / 2n];
  }
  return sn === 0n && r.equals(root);
}

// ---- signed notes ----

// Base64 only as an encoder writes it.
function unbase64(text, size) {
  const bytes = Buffer.from(text, 'base64');
  if (bytes.toString('base64') !== text) throw new Error(`\`${text}\` is not base64`);
  if (size !== undefined && bytes.length !== size) throw new Error(`${bytes.length} bytes instead of ${size}`);
  return bytes;
}

function number(text) {
  if (!/^(0|[1-9][0-9]{0,18})$/.test(text)) throw new Error(`\`${text}\` is no number`);
  return BigInt(text);
}

const ED25519 = Buffer.from('302a300506032b6570032100', 'hex'); // SubjectPublicKeyInfo before the 32 bytes
const keys = new Map();
function signedBy(publicKey, message, signature) {
  const hex = publicKey.toString('hex');
  if (!keys.has(hex)) keys.set(hex, crypto.createPublicKey({ key: Buffer.concat([ED25519, publicKey]), format: 'der', type: 'spki' }));
  return crypto.verify(null, message, keys.get(hex), signature);
}

const keyId = (name, algorithm, publicKey) => sha(`${name}\n`, Buffer.from([algorithm]), publicKey).subarray(0, 4);

// kind: 'checkpoint', 'rotation' (in audit.keys), 'tree' (pruned). Looks at no signature.
export function parseNote(bytes, kind) {
  const whole = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  if (/[\u0000-\u0009\u000b-\u001f\u007f]/.test(whole)) throw new Error('control characters in it');
  const split = whole.lastIndexOf('\n\n');
  if (split < 0) throw new Error('no empty line before signatures');
  const text = whole.slice(0, split + 1), rest = whole.slice(split + 2);
  if (!rest.endsWith('\n')) throw new Error('the last line has no end');
  const signatures = rest.slice(0, -1).split('\n').map((line) => {
    const m = /^— ([^ +\s]+) ([A-Za-z0-9+/=]+)$/.exec(line);
    if (!m) throw new Error('a line that is no signature');
    const blob = unbase64(m[2]);
    if (blob.length < 5) throw new Error('a signature that is too short');
    return { name: m[1], id: blob.subarray(0, 4), signature: blob.subarray(4) };
  });
  const lines = text.slice(0, -1).split('\n');
  const next = (what, pattern) => {
    const m = pattern.exec(lines[0] ?? '');
    if (m) lines.shift();
    else if (what) throw new Error(`${what} is missing or of another form: \`${lines[0] ?? ''}\``);
    return m;
  };
  const note = { text, signatures, rotations: 0, pieces: [] };
  note.chain = next('the origin', /^redoubt\/audit\/([0-9a-f]{32})$/)[1];
  note.size = number(next('the size', /^([0-9]+)$/)[1]);
  note.root = unbase64(next('the root', /^(\S+)$/)[1], 32);
  const hash = next(null, /^chain (\S+)$/);
  if (hash) note.hash = unbase64(hash[1], 32);
  else { // the former form
    note.hash = note.root;
    note.root = null;
  }
  note.time = number(next('the time', /^time ([0-9]+)$/)[1]);
  const rotations = hash && next(null, /^rotations ([1-9][0-9]*)$/);
  if (rotations) note.rotations = Number(number(rotations[1]));
  if (kind === 'rotation') {
    const m = next('the keys', /^key (\S+) (\S+)$/);
    [note.oldKey, note.newKey] = [unbase64(m[1], 32), unbase64(m[2], 32)];
  }
  if (kind === 'tree') {
    for (let m; (m = next(null, /^piece (\S+)$/));) note.pieces.push(unbase64(m[1], 32));
    const wanted = [...note.size.toString(2)].filter((b) => b === '1').length;
    if (note.pieces.length !== wanted) throw new Error(`${note.pieces.length} pieces instead of ${wanted}`);
  }
  if (lines.length) throw new Error(`a line that does not belong there: \`${lines[0]}\``);
  if (kind !== 'checkpoint' && !note.root) throw new Error('it names no root');
  return note;
}

// Is there a signature of this key, and is every one that says so good?
function checkSigned(note, publicKey) {
  const id = keyId(NAME, 1, publicKey);
  const own = note.signatures.filter((s) => s.name === NAME && s.id.equals(id));
  return own.length > 0 && own.every((s) => s.signature.length === 64 && signedBy(publicKey, Buffer.from(note.text), s.signature));
}

// A witness: NAME+ID+KEY. Gives when it signed, null if it has not (or not well).
export function cosigned(note, vkey) {
  const m = /^([^+\s]+)\+([0-9a-f]{8})\+(\S+)$/.exec(vkey);
  if (!m) throw new Error('a witness is NAME+ID+KEY');
  const key = unbase64(m[3], 33);
  const id = keyId(m[1], 4, key.subarray(1));
  if (key[0] !== 4 || id.toString('hex') !== m[2]) throw new Error('the witness\'s id is not that of its key');
  for (const s of note.signatures) {
    if (s.name !== m[1] || !s.id.equals(id) || s.signature.length !== 72) continue;
    const at = s.signature.readBigUInt64BE(0);
    if (signedBy(key.subarray(1), Buffer.from(`cosignature/v1\ntime ${at}\n${note.text}`), s.signature.subarray(8))) return at;
  }
  return null;
}

// The keys of a trail, oldest first: [{key, since}], from its notes of rotation and the newest key.
export function keyList(notes, newest) {
  if (notes.length === 0) return [{ key: newest, since: 0n }];
  const list = [{ key: notes[0].oldKey, since: 0n }];
  notes.forEach((n, i) => {
    if (n.rotations !== i + 1) throw new Error(`change ${i + 1} says that it is number ${n.rotations}`);
    if (!n.oldKey.equals(list[i].key)) throw new Error(`change ${i + 1} does not begin with the key before it`);
    if (n.signatures.length !== 2 || !checkSigned({ ...n, signatures: [n.signatures[0]] }, n.oldKey) ||
        !checkSigned({ ...n, signatures: [n.signatures[1]] }, n.newKey)) throw new Error(`change ${i + 1} is not signed by both keys`);
    if (n.size < list[i].since || n.chain !== notes[0].chain) throw new Error(`change ${i + 1} goes back, or is of another chain`);
    list.push({ key: n.newKey, since: n.size });
  });
  if (newest && !list.slice(-2).some((k) => k.key.equals(newest))) throw new Error('audit.pub is not the last key, nor the one before it');
  return list;
}

// By the key whose turn it was. `any`: of any size.
function checkTurn(note, list, any) {
  if (note.rotations >= list.length) return `it is of change ${note.rotations} of the key, which is not there`;
  const { key, since } = list[note.rotations], until = list[note.rotations + 1]?.since;
  if (!any && (note.size < since || (until !== undefined && note.size > until))) return 'its key was not the one that counts at this size';
  return checkSigned(note, key) ? null : 'it is not signed by a key of this trail';
}

function splitNotes(bytes) {
  const text = bytes.toString('latin1'), starts = [...text.matchAll(/^redoubt\/audit\//gm)].map((m) => m.index);
  if (starts[0] !== 0) throw new Error('it does not begin with a note');
  return starts.map((at, i) => bytes.subarray(at, starts[i + 1] ?? bytes.length));
}

// ---- segments ----

const segmentName = /^audit-([0-9]{20})\.seg$/;

function parseHeader(b) {
  if (b.length < HEADER || b.subarray(0, HEADER).every((x) => x === 0)) return { torn: true };
  if (b.toString('latin1', 0, 8) !== 'RDBTAUD1') return { bad: 'no segment: its first bytes are others', at: 0 };
  if (!H(b.subarray(0, 80)).equals(b.subarray(80, HEADER))) return { bad: 'the header does not fit its hash', at: 80 };
  if (b.readUInt32LE(8) !== 1 || b.readUInt32LE(12) !== HEADER) return { bad: 'another version', at: 8 };
  return { chain: b.toString('hex', 16, 32), first: b.readBigUInt64LE(32), prev: b.subarray(48, 80), link: b.subarray(80, HEADER) };
}

// What a write that a crash cut short leaves: all that the record has of some sector is zeros, and no more than one write and a record is left.
function neverWritten(b, at, length) {
  if (b.length - at > WRITE_MAX + STORED_MAX + 44) return false;
  const end = length > STORED_MAX ? b.length : Math.min(at + length + 44, b.length);
  for (let s = at; s < end; s = (Math.floor(s / SECTOR) + 1) * SECTOR)
    if (b.subarray(s, Math.min((Math.floor(s / SECTOR) + 1) * SECTOR, end)).every((x) => x === 0)) return true;
  return false;
}

const recordHash = (link, b, at, length) => {
  const n = Buffer.alloc(4);
  n.writeUInt32LE(length);
  return H(link, b.subarray(at + 4, at + 12), n, b.subarray(at + 12, at + 12 + length));
};
const fits = (link, b, at, length) => recordHash(link, b, at, length).equals(b.subarray(at + 12 + length, at + 44 + length));

// Does a record begin here that is whole, but for its length? The one that ends with the file is tried first; all, if there are not too many.
const TRIES = 8192;
function wholeButForItsLength(link, b, at, sequence) {
  const most = Math.min(b.length - at - 44, STORED_MAX);
  if (most < 0 || b.readBigUInt64LE(at + 4) !== sequence) return false;
  if (fits(link, b, at, most)) return true;
  for (let n = Math.min(most, TRIES); n-- > 0;) if (fits(link, b, at, n)) return true;
  return false;
}

// ---- a trail ----

// `dirs`: for each directory its files, name -> bytes (or a function that gives them). Never throws for what is in them.
export function verifyTrail(dirs, { key = null, anchors = [], witnesses = [] } = {}) {
  const r = { problems: [], records: 0, segments: 0, lastSequence: 0n, pruned: 0n, torn: 0, chain: null, checkpoint: null, rotations: 0, cosigned: {} };
  const problem = (file, offset, sequence, what) => r.problems.push({ file, offset, sequence: Number(sequence), what });
  const get = (files, name) => { const f = files.get(name); return typeof f === 'function' ? f() : f; };
  const attempt = (file, fn) => { try { return fn(); } catch (e) { problem(file, 0, 0, e.message); return null; } };
  const [own] = dirs;

  // Keys.
  const notes = own.has('audit.keys') ? attempt('audit.keys', () => splitNotes(get(own, 'audit.keys')).map((b) => parseNote(b, 'rotation'))) : [];
  const pub = attempt('audit.pub', () => {
    const text = get(own, 'audit.pub')?.toString('latin1').trim();
    if (text === undefined || !/^[0-9a-f]{64}$/.test(text)) throw new Error('no public key is there');
    return Buffer.from(text, 'hex');
  });
  const list = notes && pub && attempt('audit.keys', () => keyList(notes, pub));
  r.rotations = list ? list.length - 1 : 0;
  if (list && key && !list.some((k) => k.key.equals(key))) problem('audit.pub', 0, 0, 'the key that is trusted is none of this trail\'s');

  // Marks: what was signed of sizes.
  const marks = (notes ?? []).map((note) => ({ file: 'audit.keys', note }));
  for (const files of dirs) {
    if (!files.has('checkpoint')) continue;
    const note = attempt('checkpoint', () => parseNote(get(files, 'checkpoint'), 'checkpoint'));
    const why = note && list && checkTurn(note, list);
    if (why) problem('checkpoint', 0, 0, why);
    if (!note || why) continue;
    marks.push({ file: 'checkpoint', note });
    if (!r.checkpoint || note.size > r.checkpoint.size) r.checkpoint = note;
  }
  if (!dirs.some((f) => f.has('checkpoint'))) problem('checkpoint', 0, 0, 'there is none');
  anchors.forEach((bytes) => {
    const note = attempt('anchor', () => parseNote(bytes, 'checkpoint'));
    const why = note && list && checkTurn(note, list);
    if (why) problem('anchor', 0, 0, why);
    else if (note) marks.push({ file: 'anchor', note });
  });
  for (const w of witnesses) r.cosigned[w] = r.checkpoint ? cosigned(r.checkpoint, w) : null;

  // Where it begins.
  let tree = new Tree(), next = 1n, last = Buffer.alloc(32);
  if (own.has('pruned')) {
    const note = attempt('pruned', () => {
      const n = parseNote(get(own, 'pruned'), 'tree');
      const why = list && checkTurn(n, list, true);
      if (why) throw new Error(why);
      if (!new Tree(Number(n.size), n.pieces).root().equals(n.root)) throw new Error('its pieces do not make its root');
      return n;
    });
    if (note) {
      marks.push({ file: 'pruned', note });
      tree = new Tree(Number(note.size), note.pieces);
      r.pruned = note.size;
      next = note.size + 1n;
      last = note.hash;
    }
  }
  r.lastSequence = next - 1n;
  const covered = marks.reduce((most, m) => (m.note.size > most ? m.note.size : most), 0n);
  const seen = new Map([[next - 1n, { hash: last, root: tree.root() }]]);
  const wanted = new Set(marks.map((m) => m.note.size));

  // Segments, in order; each in one of the directories.
  const all = dirs.flatMap((files, d) => [...files.keys()].flatMap((name) => {
    const m = segmentName.exec(name);
    return m ? [{ name, first: BigInt(m[1]), d }] : [];
  })).sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : a.d - b.d));
  const order = all.filter((s, i) => {
    const twice = i > 0 && all[i - 1].name === s.name;
    if (twice) problem(s.name, 0, s.first, 'the segment is there twice');
    return !twice;
  });
  const from = order.findIndex((_, i) => i + 1 >= order.length || order[i + 1].first > next);
  if (order.length === 0) problem(covered ? 'checkpoint' : '', 0, covered, covered ? `${covered} records were signed, and no segment is here` : 'no segment is here');
  let lost = false; // after a hole the tree cannot be made
  for (let i = Math.max(from, 0); i < order.length; i++) {
    const { name, first, d } = order[i], b = get(dirs[d], name), isLast = i === order.length - 1;
    r.segments++;
    const h = parseHeader(b);
    if (h.torn || h.bad) {
      if (h.torn && isLast && next - 1n >= covered) r.torn = b.length;
      else problem(name, h.at ?? 0, next, h.bad ?? 'it ends within its header');
      lost = lost || !r.torn;
      continue;
    }
    if (h.first !== first) problem(name, 32, h.first, `its name says record ${first}, its header ${h.first}`);
    if (r.chain && h.chain !== r.chain) problem(name, 16, h.first, 'it belongs to another chain');
    r.chain ??= h.chain;
    if (h.first !== next) {
      problem(name, 32, next, `it begins with record ${h.first} where ${next} should come`);
      lost = true;
    } else if (!h.prev.equals(last)) problem(name, 48, next, 'it does not continue the segment before it');
    next = h.first;
    last = h.prev;
    let link = h.link, at = HEADER;
    while (at < b.length) {
      const beyond = isLast && next - 1n >= covered;
      const whole = b.length - at >= 12 ? b.readUInt32LE(at) : null;
      const size = whole === null ? null : whole + 44;
      let bad = null;
      if (size === null) bad = 'it ends within a record';
      else if (whole > STORED_MAX) bad = 'a record is too long';
      else if (b.readBigUInt64LE(at + 4) !== next) bad = `record ${b.readBigUInt64LE(at + 4)} where ${next} should come`;
      else if (at + size > b.length) bad = 'it ends within a record';
      else if (!fits(link, b, at, whole)) bad = 'the record does not fit its hash';
      if (bad) {
        const unfinished = bad === 'it ends within a record' && !wholeButForItsLength(link, b, at, next);
        if (beyond && (unfinished || neverWritten(b, at, whole ?? 0))) r.torn = b.length - at;
        else {
          problem(name, at, next, bad);
          lost = true;
        }
        break;
      }
      link = last = b.subarray(at + 12 + whole, at + size);
      if (!lost) tree.append(leafHash(b.subarray(at + 12, at + 12 + whole)));
      if (wanted.has(next)) seen.set(next, { hash: last, root: lost ? null : tree.root() });
      r.records++;
      r.lastSequence = next;
      next++;
      at += size;
    }
  }

  // What was signed must be what is there.
  if (order.length > 0)
    for (const { file, note } of marks) {
      const here = seen.get(note.size);
      if (r.chain && note.chain !== r.chain) problem(file, 0, 0, 'it is of another chain');
      else if (note.size > r.lastSequence) problem(file, 0, note.size, `it covers ${note.size} records, and only ${r.lastSequence} are here`);
      else if (note.size < r.pruned) continue; // deleted
      else if (!here) problem(file, 0, note.size, `record ${note.size}, which was signed, could not be looked at`);
      else if (!here.hash.equals(note.hash)) problem(file, 0, note.size, `record ${note.size} is not the one that was signed`);
      else if (note.root && here.root && !here.root.equals(note.root)) problem(file, 0, note.size, `the tree at ${note.size} is not the one that was signed`);
    }
  r.root = lost ? null : tree.root().toString('hex');
  r.whole = r.problems.length === 0;
  return r;
}

// The files of a directory; segments are read when they are looked at.
export function load(dir) {
  return new Map(fs.readdirSync(dir).filter((f) => segmentName.test(f) || ['checkpoint', 'audit.pub', 'audit.keys', 'pruned'].includes(f))
    .map((f) => [f, segmentName.test(f) ? () => fs.readFileSync(path.join(dir, f)) : fs.readFileSync(path.join(dir, f))]));
}

// ---- a proof ----

// Gives {sequence, record, checkpoint, list}; throws if it shows nothing.
export function verifyProof(text, { key = null } = {}) {
  const p = JSON.parse(text);
  if (p.format !== 'redoubt-audit-proof/1') throw new Error('no proof');
  if (!Number.isSafeInteger(p.sequence) || p.sequence < 1 || !/^[0-9a-f]{64}$/.test(p.public_key)) throw new Error('sequence or key of another form');
  const list = keyList(p.keys.map((n) => parseNote(Buffer.from(n), 'rotation')), Buffer.from(p.public_key, 'hex'));
  if (key && !list.some((k) => k.key.equals(key))) throw new Error('the key that is trusted is none of this proof\'s');
  const checkpoint = parseNote(Buffer.from(p.checkpoint), 'checkpoint');
  const why = checkTurn(checkpoint, list);
  if (why) throw new Error(why);
  if (!checkpoint.root) throw new Error('the checkpoint names no root');
  const record = unbase64(p.record);
  if (!inTree(leafHash(record), BigInt(p.sequence) - 1n, checkpoint.size, p.path.map((h) => unbase64(h, 32)), checkpoint.root))
    throw new Error('the record is not in the tree that was signed');
  return { sequence: p.sequence, record, checkpoint, list };
}

// ---- the command ----

function main(argv) {
  const options = {}, dirs = [];
  for (let i = 0; i < argv.length; i++)
    if (argv[i].startsWith('--')) options[argv[i].slice(2)] = argv[++i];
    else dirs.push(argv[i]);
  const key = options.key ? Buffer.from(options.key, 'hex') : null;
  if (options.proof) {
    try {
      const p = verifyProof(fs.readFileSync(options.proof, 'utf8'), { key });
      console.log(`proven: record ${p.sequence} of chain ${p.checkpoint.chain}, in the tree of ${p.checkpoint.size} records`);
      return 0;
    } catch (e) {
      console.log(`NOT PROVEN: ${e.message}`);
      return 1;
    }
  }
  if (dirs.length < 1 || dirs.length > 2) {
    console.error('audit-verify [--key HEX] [--anchor FILE] [--witness VKEY] DIR [DIR2], or --proof FILE');
    return 2;
  }
  let r;
  try {
    r = verifyTrail(dirs.map(load), { key, anchors: options.anchor ? [fs.readFileSync(options.anchor)] : [], witnesses: options.witness ? [options.witness] : [] });
  } catch (e) {
    console.error(e.message);
    return 2;
  }
  for (const p of r.problems) console.log(`  ! ${p.file} at byte ${p.offset}${p.sequence ? `, record ${p.sequence}` : ''}: ${p.what}`);
  const unseen = options.witness && r.cosigned[options.witness] === null;
  if (unseen) console.log('  ! checkpoint: not signed by the witness');
  console.log(`${dirs[0]}: ${r.whole ? 'whole' : `BROKEN: ${r.problems.length} problems`}, ${r.records} records in ${r.segments} segments, root ${r.root}` +
    `${r.checkpoint ? `, signed up to record ${r.checkpoint.size}` : ''}${r.torn ? `, ${r.torn} bytes of a write that was cut short` : ''}`);
  return r.whole && !unseen ? 0 : 1;
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) process.exit(main(process.argv.slice(2)));

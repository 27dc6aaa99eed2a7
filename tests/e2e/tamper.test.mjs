// tamper.test.mjs - two verifiers that share no code, on trails of the real service: both say whole, and both find every tampering.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { decode } from './lib/contract.mjs';
import { TrailStack, record, segments } from './lib/trail.mjs';
import { until } from './lib/wait.mjs';
import { load, verifyProof, verifyTrail } from '../verify/audit-verify.mjs';

const HEADER = 112;
const seed = Number(process.env.REDOUBT_SEED ?? Date.now() % 1e9);
let state = seed;
const below = (n) => { // the same choice for the same seed
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
};

describe('tampering', () => {
  const t = new TrailStack('tamper', (s) => {
    fs.mkdirSync(path.join(s.dir, 'mirror'));
    return `audit: { segment: 4KiB, checkpoint: 100ms, mirror: "${path.join(s.dir, 'mirror')}" }\n`;
  });
  let dir, key0, old, witness;

  const cli = (...args) => t.stack.cli(['audit', ...args]);
  const files = (from = dir) => new Map([...load(from)].map(([name, f]) => [name, Buffer.from(typeof f === 'function' ? f() : f)]));
  const written = (map, name = 'changed') => {
    const to = path.join(t.stack.dir, name);
    fs.rmSync(to, { recursive: true, force: true });
    fs.mkdirSync(to);
    for (const [f, bytes] of map) fs.writeFileSync(path.join(to, f), bytes);
    return to;
  };
  const some = (n, subject = 'thing') => Array.from({ length: n }, () => record({ subject, detail: 'x'.repeat(below(30)) }));
  const publish = async (n) => { // a batch is never divided: small ones, so that there are several segments
    for (let i = 0; i < n; i += 6) {
      await t.publish(some(Math.min(6, n - i)));
      await t.settled();
    }
  };

  before(async () => {
    await t.open();
    dir = t.dir();
    key0 = fs.readFileSync(path.join(dir, 'audit.pub'), 'utf8').trim();
    await publish(48);
    await until('a checkpoint', () => /\n48\n/.test(fs.readFileSync(path.join(dir, 'checkpoint'), 'utf8')));
    old = files();
    for (let i = 0; i < 2; i++) {
      const turned = await cli('rotate', '--by', 'test', '--reason', 'it is time');
      assert.equal(turned.code, 0, turned.err);
      await publish(42);
    }
    fs.mkdirSync(path.join(t.stack.dir, 'copies'));
    const followed = await cli('follow', '--to', path.join(t.stack.dir, 'copies'), '--once', '--witness', path.join(t.stack.dir, 'witness.key'), '--name', 'witness.example');
    assert.equal(followed.code, 0, followed.err);
    witness = /^witness (\S+)$/m.exec(followed.out)[1];
    await t.close();
  });
  after(() => t.dispose());

  test('both say that it is whole, and agree on what it is', async () => {
    const r = verifyTrail([load(dir)], { key: Buffer.from(key0, 'hex') });
    assert.deepEqual(r.problems, []);
    assert.equal(r.rotations, 2);
    assert.ok(r.segments >= 4, `${r.segments} segments`);
    const said = await cli('verify', '--key', key0, dir);
    assert.equal(said.code, 0, said.out + said.err);
    assert.match(said.out, new RegExp(`whole, ${r.records} records in ${r.segments} segments.*signed up to record ${r.checkpoint.size}.*key changed 2 times`));
    assert.equal(Number(r.checkpoint.size), r.records, 'the end is signed when the service stops');
    // A key of before counts, another does not.
    assert.equal(verifyTrail([load(dir)], { key: Buffer.alloc(32, 7) }).whole, false);
    assert.equal((await cli('verify', '--key', '07'.repeat(32), dir)).code, 1);
    // The record of what was published, from the bytes of the files.
    let found = 0;
    for (const s of segments(dir)) {
      const b = fs.readFileSync(path.join(dir, s));
      for (let at = HEADER; at < b.length; at += b.readUInt32LE(at) + 44)
        found += decode('AuditRecord', b.subarray(at + 12, at + 12 + b.readUInt32LE(at))).service === 'test';
    }
    assert.equal(found, t.sent);
  });

  test('copies: the mirror, and that of a witness, with its signature', async () => {
    const [chain] = fs.readdirSync(path.join(t.stack.dir, 'copies')).filter((f) => /^[0-9a-f]{32}$/.test(f));
    const copy = path.join(t.stack.dir, 'copies', chain);
    const r = verifyTrail([load(copy)], { key: Buffer.from(key0, 'hex'), witnesses: [witness] });
    assert.deepEqual(r.problems, []);
    assert.ok(r.cosigned[witness] > 1700000000n);
    const [name, id, key] = witness.split('+');
    const forged = new Map(load(copy));
    forged.set('checkpoint', Buffer.from(forged.get('checkpoint').toString().replace(`— ${name} `, `— ${name}x `)));
    assert.equal(verifyTrail([forged], { witnesses: [witness] }).cosigned[witness], null, `not by ${id} ${key}`);
    const instance = path.join(t.stack.dir, 'mirror', fs.readdirSync(path.join(t.stack.dir, 'mirror'))[0]);
    const mirror = path.join(instance, fs.readdirSync(instance)[0]);
    assert.deepEqual(verifyTrail([load(mirror)], { key: Buffer.from(key0, 'hex') }).problems, []);
    assert.equal((await cli('verify', '--key', key0, mirror)).code, 0);
  });

  test('proofs: made by one, checked by the other', async () => {
    const last = verifyTrail([load(dir)]).records;
    for (const seq of [1, 2, 1 + below(last), last]) {
      const made = await cli('proof', String(seq), dir);
      assert.equal(made.code, 0, made.err);
      const p = verifyProof(made.out, { key: Buffer.from(key0, 'hex') });
      assert.equal(p.sequence, seq);
      assert.equal(p.list.length, 3);
      const json = JSON.parse(made.out);
      const wrong = [{ sequence: seq + 1 }, { path: json.path.slice(1) }, { path: [...json.path].reverse() }, { keys: json.keys.slice(1) },
        { record: Buffer.from('another').toString('base64') }, { public_key: key0 }, { checkpoint: json.checkpoint.replace(/time [0-9]/, 'time 9') }];
      for (const w of wrong) {
        if (w.path && JSON.stringify(w.path) === JSON.stringify(json.path)) continue;
        assert.throws(() => verifyProof(JSON.stringify({ ...json, ...w })), undefined, Object.keys(w)[0]);
      }
      assert.throws(() => verifyProof(made.out, { key: Buffer.alloc(32, 7) }));
    }
  });

  test('every tampering is found, by both, with its place', { timeout: 300000 }, async (context) => {
    const whole = files(), names = segments(dir), rows = [];
    const anchor = whole.get('checkpoint');
    fs.writeFileSync(path.join(t.stack.dir, 'anchor'), anchor);
    const recordsOf = (b) => { // [offset, end]
      const list = [];
      for (let at = HEADER; at < b.length; at += b.readUInt32LE(at) + 44) list.push([at, at + b.readUInt32LE(at) + 44]);
      return list;
    };
    const middle = names[1 + below(names.length - 2)];
    const records = recordsOf(whole.get(middle));
    const first = Number(whole.get(middle).readBigUInt64LE(32));

    // One kind of tampering: variants of the trail; `both` of them are given to the other verifier, too.
    const tamper = async (what, variants, { anchored = false, native = 3, place } = {}) => {
      let found = 0, foundNative = 0, tried = 0, triedNative = 0;
      const step = Math.max(1, Math.floor(variants.length / native));
      const lead = below(step);
      for (const [i, make] of variants.entries()) {
        const { map, file, sequence } = make();
        const r = verifyTrail([map], { anchors: anchored ? [anchor] : [] });
        const at = r.problems.find((p) => (!file || p.file === file) && (!sequence || p.sequence === sequence)) ?? null;
        tried++;
        found += at !== null;
        assert.ok(at, `${what}, variant ${i}, seed ${seed}: ${JSON.stringify(r.problems.slice(0, 3))}, expected ${file} ${sequence}`);
        if (i % step !== lead && variants.length > native) continue;
        triedNative++;
        const args = anchored ? ['--anchor', path.join(t.stack.dir, 'anchor')] : [];
        const said = await cli('verify', ...args, written(map));
        const named = said.code === 1 && (place ?? ((out) => !file || out.includes(`! ${file} at byte`)))(said.out);
        foundNative += named;
        assert.ok(named, `${what}, variant ${i}, seed ${seed}: ${said.code} ${said.out}${said.err}`);
      }
      rows.push([what, tried, found, triedNative, foundNative]);
    };
    const change = (name, fn, from = whole) => {
      const map = new Map(from);
      const b = fn(Buffer.from(map.get(name)));
      if (b) map.set(name, b);
      else map.delete(name);
      return map;
    };
    const flips = (name, from, to, sequence, trail = whole) => Array.from({ length: 8 * (to - from) }, (_, bit) => () => ({
      map: change(name, (b) => { b[from + (bit >> 3)] ^= 1 << (bit & 7); return b; }, trail), file: name, sequence }));
    const cut = (b, from, to) => Buffer.concat([b.subarray(0, from), b.subarray(to)]);

    // Every bit of what is sampled, in the shorter trail that it once was.
    const sampled = [...old.keys()].filter((n) => /seg$/.test(n)).sort()[0];
    assert.ok(segments(dir)[1] && old.has(segments(dir)[1]), 'it is not the last');
    const its = recordsOf(old.get(sampled)), from = Number(old.get(sampled).readBigUInt64LE(32));
    await tamper('a bit of a header', flips(sampled, 0, HEADER, undefined, old));
    for (const [k, what] of [[0, 'the first'], [1 + below(its.length - 2), 'some'], [its.length - 1, 'the last']])
      await tamper(`a bit of ${what} record of a segment`, flips(sampled, ...its[k], from + k, old));
    const lastSegment = names.at(-1), lastBytes = whole.get(lastSegment);
    await tamper('a bit of the last segment\'s header', flips(lastSegment, 0, HEADER).filter((_, i) => i % 3 === 0));
    await tamper('a record deleted', records.slice(0, -1).map(([from, to], k) => () => ({ map: change(middle, (b) => cut(b, from, to)), file: middle, sequence: first + k })));
    await tamper('the last record of a segment deleted', [() => ({ map: change(middle, (b) => b.subarray(0, records.at(-1)[0])), sequence: first + records.length - 1 })]);
    await tamper('a record doubled', records.map(([from, to], k) => () => ({
      map: change(middle, (b) => Buffer.concat([b.subarray(0, to), b.subarray(from, to), b.subarray(to)])), file: middle, sequence: first + k + 1 })));
    await tamper('two records in the other order', records.slice(0, -1).map(([from, to], k) => () => ({
      map: change(middle, (b) => Buffer.concat([b.subarray(0, from), b.subarray(to, records[k + 1][1]), b.subarray(from, to), b.subarray(records[k + 1][1])])),
      file: middle, sequence: first + k })));
    await tamper('a segment deleted', names.map((n) => () => ({ map: change(n, () => null) })));
    await tamper('two segments in the other order', names.slice(0, -1).map((n, i) => () => {
      const map = new Map(whole);
      map.set(n, whole.get(names[i + 1]));
      map.set(names[i + 1], whole.get(n));
      return { map, file: n };
    }), { place: (out) => out.includes('BROKEN') });
    await tamper('a segment of another chain', [() => {
      const map = new Map(whole);
      const b = Buffer.from(whole.get(middle));
      b[16] ^= 0xff; // with a hash that fits, as its maker would
      map.set(middle, b);
      return { map, file: middle };
    }]);
    await tamper('an end cut off, at records', Array.from({ length: 12 }, (_, i) => () => {
      const map = new Map(whole);
      for (const n of names.slice(names.length - 1 - (i % 4))) map.delete(n);
      return { map, file: 'checkpoint' };
    }));
    await tamper('an end cut off, at bytes', Array.from({ length: 30 }, () => () => ({
      map: change(lastSegment, (b) => b.subarray(0, HEADER + below(b.length - HEADER))) })));
    await tamper('a segment cut off, at bytes', Array.from({ length: 30 }, () => () => ({
      map: change(middle, (b) => b.subarray(0, below(b.length))) })), { place: (out) => out.includes('BROKEN') });
    await tamper('a bit of the checkpoint', flips('checkpoint', 0, anchor.length).filter((_, i) => i % 13 === 0), { place: (out) => out.includes('! checkpoint') });
    await tamper('a bit of the keys\' changes', flips('audit.keys', 0, whole.get('audit.keys').length).filter((_, i) => i % 29 === 0), { place: (out) => out.includes('BROKEN') });
    await tamper('no checkpoint', [() => ({ map: change('checkpoint', () => null), file: 'checkpoint' })]);
    await tamper('an older checkpoint, with an anchor', [() => ({ map: new Map([...old, ...[...whole].filter(([n]) => /seg$/.test(n)).slice(0, 2)]), file: 'anchor' })],
      { anchored: true, place: (out) => out.includes('BROKEN') });
    await tamper('an older copy of it all, with an anchor', [() => ({ map: new Map(old), file: 'anchor' })], { anchored: true, place: (out) => /anchor/i.test(out) });

    // Another trail in its place, whole in itself, by a key of its own.
    const other = new TrailStack('other', 'audit: { segment: 4KiB, checkpoint: 100ms }\n');
    try {
      await other.open();
      await other.publish(some(140));
      await other.settled();
      await other.close();
      const theirs = files(other.dir());
      assert.equal(verifyTrail([theirs]).whole, true);
      await tamper('a checkpoint by another key', [() => ({ map: change('checkpoint', () => theirs.get('checkpoint')), file: 'checkpoint' })]);
      await tamper('checkpoint and key of another', [() => {
        const map = change('checkpoint', () => theirs.get('checkpoint'));
        map.set('audit.pub', theirs.get('audit.pub'));
        map.delete('audit.keys');
        return { map, file: 'checkpoint' };
      }]);
      const replaced = verifyTrail([theirs], { key: Buffer.from(key0, 'hex') });
      const said = await cli('verify', '--key', key0, written(theirs));
      assert.ok(!replaced.whole && said.code === 1);
      rows.push(['another trail, against a trusted key', 1, 1, 1, 1]);
    } finally {
      await other.dispose();
    }
    // What a crash leaves is no tampering: more bytes behind what was signed, unfinished.
    const torn = change(lastSegment, (b) => Buffer.concat([b, Buffer.from([9, 0, 0, 0]), Buffer.alloc(5, 1)]));
    assert.deepEqual([verifyTrail([torn]).problems, verifyTrail([torn]).torn], [[], 9]);
    assert.equal((await cli('verify', written(torn))).code, 0);
    assert.ok(lastBytes.length > HEADER);
    // Nor a segment that was only begun, or one whose first sector was never written.
    const nextName = `audit-${String(verifyTrail([whole]).lastSequence + 1n).padStart(20, '0')}.seg`;
    for (const begun of [Buffer.alloc(0), Buffer.from('RDBTAUD1'), Buffer.alloc(4096)]) {
      const map = new Map([...whole, [nextName, begun]]);
      assert.deepEqual(verifyTrail([map]).problems, [], `${begun.length} bytes`);
      assert.equal((await cli('verify', written(map))).code, 0, `${begun.length} bytes`);
    }

    const width = Math.max(...rows.map((r) => r[0].length));
    context.diagnostic(`seed ${seed}; tampering: tried, found by the independent verifier; tried, found by redoubt audit verify`);
    for (const r of rows) context.diagnostic(`${r[0].padEnd(width)} ${String(r[1]).padStart(5)} ${String(r[2]).padStart(5)}   ${String(r[3]).padStart(4)} ${String(r[4]).padStart(4)}`);
    assert.ok(rows.every((r) => r[1] === r[2] && r[3] === r[4]));
  });

  test('a pruned beginning: the rest is whole, and its roots are the same', { timeout: 120000 }, async () => {
    const p = new TrailStack('pruned', (s) => {
      fs.mkdirSync(path.join(s.dir, 'mirror'));
      return `audit: { segment: 4KiB, checkpoint: 100ms, mirror: "${path.join(s.dir, 'mirror')}", keep_size: 8KiB }\n`;
    });
    try {
      await p.open();
      const pub = Buffer.from(fs.readFileSync(path.join(p.dir(), 'audit.pub'), 'utf8').trim(), 'hex');
      for (let i = 0; i < 40 && !fs.existsSync(path.join(p.dir(), 'pruned')); i++) {
        await p.publish(some(9));
        await p.settled();
        await until('the end to be signed', () => Number(load(p.dir()).get('checkpoint').toString().split('\n')[1]) >= p.sent);
      }
      await p.publish(some(9));
      await p.settled();
      await p.close();
      const rest = files(p.dir()), r = verifyTrail([rest], { key: pub });
      assert.deepEqual(r.problems, []);
      assert.ok(r.pruned > 0n, 'the oldest segments were deleted');
      assert.equal(Number(r.pruned) + r.records, p.sent);
      const said = await cli('verify', p.dir());
      assert.equal(said.code, 0, said.out);
      assert.match(said.out, new RegExp(`those up to ${r.pruned} were deleted`));
      // The mirror keeps everything: its root is the same.
      const instance = path.join(p.stack.dir, 'mirror', fs.readdirSync(path.join(p.stack.dir, 'mirror'))[0]);
      const all = verifyTrail([load(path.join(instance, fs.readdirSync(instance)[0]))]);
      assert.deepEqual([all.problems, all.root, all.records], [[], r.root, p.sent]);
      const made = await cli('proof', String(r.pruned + 1n), p.dir());
      assert.equal(made.code, 0, made.err);
      assert.equal(verifyProof(made.out, { key: pub }).sequence, Number(r.pruned) + 1);
      // A checkpoint as earlier versions wrote it: no root, the chain's hash alone. Signed here, with the trail's own key.
      const former = (hash) => {
        const secret = Buffer.from(fs.readFileSync(path.join(p.dir(), 'audit.key'), 'utf8').trim(), 'hex').subarray(0, 32);
        const text = `redoubt/audit/${r.chain}\n${r.checkpoint.size}\n${hash.toString('base64')}\ntime ${r.checkpoint.time}\n`;
        const id = crypto.createHash('sha256').update('redoubt-audit\n\u0001').update(pub).digest().subarray(0, 4);
        const key = crypto.createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), secret]), format: 'der', type: 'pkcs8' });
        const note = `${text}\n— redoubt-audit ${Buffer.concat([id, crypto.sign(null, Buffer.from(text), key)]).toString('base64')}\n`;
        return new Map([...rest, ['checkpoint', Buffer.from(note)]]);
      };
      for (const [hash, whole] of [[r.checkpoint.hash, true], [r.checkpoint.root, false]]) {
        assert.equal(verifyTrail([former(hash)]).whole, whole);
        assert.equal((await cli('verify', written(former(hash)))).code, whole ? 0 : 1);
      }
      assert.equal((await cli('proof', '1', p.dir())).code, 1, 'what is gone cannot be proven from what is left');
      const wrong = [['pruned', null], [segments(p.dir())[0], null]];
      for (let bit = below(16); bit < 8 * rest.get('pruned').length; bit += 16) wrong.push(['pruned', bit]);
      for (const [i, [name, bit]] of wrong.entries()) {
        const map = new Map(rest);
        if (bit === null) map.delete(name);
        else map.set(name, Buffer.from(rest.get(name)).fill(rest.get(name)[bit >> 3] ^ (1 << (bit & 7)), bit >> 3, (bit >> 3) + 1));
        assert.equal(verifyTrail([map]).whole, false, `${name} ${bit}`);
        if (i % 20 < 2) assert.equal((await cli('verify', written(map))).code, 1, `${name} ${bit}`);
      }
    } finally {
      await p.dispose();
    }
  });

  test('the independent verifier as a program', () => {
    const program = new URL('../verify/audit-verify.mjs', import.meta.url).pathname;
    assert.match(execFileSync('node', [program, '--key', key0, dir], { encoding: 'utf8' }), /: whole, /);
    assert.throws(() => execFileSync('node', [program, '--key', '07'.repeat(32), dir], { stdio: 'pipe' }), (e) => e.status === 1);
    assert.throws(() => execFileSync('node', [program, '/no/such/directory'], { stdio: 'pipe' }), (e) => e.status === 2);
  });
});

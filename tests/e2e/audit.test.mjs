// audit.test.mjs - what an auditor asks: search, export, who did it, and a proof; on trails of the real service.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { load, verifyTrail } from '../verify/audit-verify.mjs';
import { record, segments, table, withTrail } from './lib/trail.mjs';

const SMALL = 'audit: { segment: 8KiB, checkpoint: 200ms }\n';
const lines = (text) => text.trimEnd().split('\n').filter(Boolean).map((l) => JSON.parse(l));

// An order by a person: meant, and how it ended.
function order(action, actor, subject, detail, ended = 'AUDIT_OUTCOME_DONE', more = {}) {
  const meant = record({ service: more.service ?? 'fallback', action, actor, subject, detail, outcome: 'AUDIT_OUTCOME_INTENDED', audit_class: 'AUDIT_CLASS_STRICT', fields: more.fields });
  const end = record({ service: more.service ?? 'fallback', action: more.end ?? action, actor: more.ended_by ?? actor, subject, detail: more.result ?? detail, outcome: ended, at_unix_ms: meant.at_unix_ms + 3 });
  return ended ? [meant, end] : [meant];
}

test('search, export, who, proof', { timeout: 120000 }, () => withTrail('evidence', SMALL, async (t) => {
  const cli = (...args) => t.stack.cli(['audit', ...args]);
  const nasty = 'said "no", then\r\nleft; =1+1, and \u001b[31mred';
  const told = [
    ...order('agent.freeze', 'alice', 'mcp-1', 'it blocks the office'),
    ...order('agent.freeze', 'bob', 'mcp-2', nasty, 'AUDIT_OUTCOME_FAILED'),
    ...order('agent.unfreeze', 'alice', 'mcp-1', 'calm again'),
    ...order('agent.freeze', 'carol', 'mcp-3', 'never ended', null),
    record({ service: 'fallback', action: 'agent.freeze', actor: 'fallback', subject: 'mcp-4', detail: 'logic error: repeats' }),
    ...order('alert.silenced', 'dave', 'silence-7', 'planned work', 'AUDIT_OUTCOME_DONE',
      { service: 'alert', fields: [{ key: 'until', value: '2031-01-01T00:00:00.000Z' }, { key: 'matchers', value: 'agent=mcp-1' }] }),
    record({ service: 'breaker', action: 'breaker.open', actor: 'breaker', subject: 'llm.a', detail: '5 failures in a row' }),
    ...order('breaker.open', 'erin', 'llm.a', 'provider says so', 'AUDIT_OUTCOME_DONE', { service: 'breaker', end: 'breaker.forced_open', result: 'forced' }),
    record({ service: 'alert', action: 'audit.gap', audit_class: 'AUDIT_CLASS_GAP', outcome: 'AUDIT_OUTCOME_FAILED', detail: '3 records are missing' }),
  ];
  await t.publish(Array.from({ length: 150 }, (_, i) => record({ fields: [{ key: 'i', value: String(i) }] })));
  for (const r of told) await t.publish([r]);
  await t.publish(Array.from({ length: 150 }, () => record({})));
  await t.settled();
  // Each replica has its own part of it: which record is where depends on who took it.
  const all = lines((await cli('export')).out);
  const [trails, records] = [all.filter((l) => 'whole' in l), all.filter((l) => 'record' in l)];
  assert.equal(trails.length, 2);
  assert.ok(trails.every((x) => x.whole && x.problems.length === 0 && /^[0-9a-f]{32}$/.test(x.chain)));
  assert.ok(all.slice(0, 2).every((l) => 'whole' in l), 'trails are said first');
  const ours = records.filter((l) => l.record.service !== 'audit');
  assert.equal(ours.length, t.sent);
  assert.equal(new Set(ours.map((l) => l.record.id)).size, t.sent);
  assert.ok(ours.every((l, i) => i === 0 || ours[i - 1].record.atUnixMs <= l.record.atUnixMs), 'in order of time');
  // The evidence is where it says: the hash stands behind the record in the file, and the sequence before it.
  for (const l of ours.filter((_, i) => i % 23 === 0)) {
    const file = fs.readFileSync(path.join(l.trail, l.file));
    const size = file.readUInt32LE(l.offset);
    assert.equal(Number(file.readBigUInt64LE(l.offset + 4)), l.sequence);
    assert.equal(file.subarray(l.offset + 12 + size, l.offset + 44 + size).toString('hex'), l.hash);
  }

  // Filters.
  const ids = async (...args) => lines((await cli('search', '--json', ...args)).out).filter((l) => l.record).map((l) => l.record.id).sort();
  const expect = (fn) => told.filter(fn).map((r) => r.id).sort();
  assert.deepEqual(await ids('--action', 'agent.*freeze'), expect((r) => /^agent/.test(r.action)));
  assert.deepEqual(await ids('--action', 'agent.*', '--actor', 'alice', '--outcome', 'done'), expect((r) => /^agent/.test(r.action) && r.actor === 'alice' && /DONE/.test(r.outcome)));
  assert.deepEqual(await ids('--subject', 'mcp-[23]'), expect((r) => /mcp-[23]/.test(r.subject)));
  assert.deepEqual(await ids('--class', 'gap'), expect((r) => r.action === 'audit.gap'));
  assert.deepEqual(await ids('--text', 'OFFICE'), expect((r) => /office/.test(r.detail)));
  assert.deepEqual(await ids('--field', 'matchers=agent=*'), expect((r) => r.fields?.some((f) => f.key === 'matchers')));
  assert.deepEqual(await ids('--service', 'breaker'), expect((r) => r.service === 'breaker'));
  assert.deepEqual(await ids('--id', told[0].id), [told[0].id]);
  assert.deepEqual(await ids('--service', 'test', '--until', '2020-01-01'), []);
  assert.equal((await ids('--service', 'test', '--since', '1h')).length, 300);
  assert.equal((await ids('--service', 'test', '--limit', '7')).length, 7);
  const plain = await cli('search', '--subject', 'mcp-2');
  assert.equal(plain.code, 0);
  assert.match(plain.out, /agent\.freeze INTENDED by bob/);
  assert.doesNotMatch(plain.out, /\u001b\[31mred/, 'nothing in a record drives the terminal');
  for (const bad of [['--since', 'yesterday'], ['--class', 'loose'], ['--outcome', 'x'], ['--field', 'novalue'], ['/no/such/directory']])
    assert.equal((await cli('search', ...bad)).code, 2, bad.join(' '));
  assert.equal((await cli('export', '--format', 'xml')).code, 2);

  // CSV and JSON say the same.
  const rows = table((await cli('export', '--format', 'csv', '--service', 'fallback')).out);
  const same = JSON.parse((await cli('export', '--format', 'json', '--service', 'fallback')).out).records;
  assert.equal(rows.length, same.length);
  rows.forEach((r, i) => {
    assert.deepEqual([r.whole, r.id, r.action, r.actor, r.detail, r.hash, Number(r.sequence), r.chain],
      ['yes', same[i].record.id, same[i].record.action, same[i].record.actor, same[i].record.detail, same[i].hash, same[i].sequence, same[i].chain]);
  });
  assert.ok(rows.some((r) => r.detail === nasty));

  // Who.
  const who = async (...args) => JSON.parse((await cli('who', ...args, '--format', 'json')).out);
  const froze = await who('froze');
  assert.deepEqual(froze.acts.map((a) => [a.who, a.on, a.why, a.outcome]), [
    ['alice', 'mcp-1', 'it blocks the office', 'done'], ['bob', 'mcp-2', nasty, 'failed'],
    ['carol', 'mcp-3', 'never ended', 'intended'], ['fallback', 'mcp-4', 'logic error: repeats', 'done']]);
  assert.ok(froze.trails.every((x) => x.whole));
  for (const a of froze.acts)
    for (const part of ['intended', 'ended']) {
      const e = a.evidence[part];
      if (e) assert.equal(e.hash, records.find((l) => l.trail === e.trail && l.sequence === e.sequence).hash);
    }
  assert.ok(froze.acts[0].evidence.intended && froze.acts[0].evidence.ended && !froze.acts[2].evidence.ended);
  assert.deepEqual((await who('forced')).acts.map((a) => [a.who, a.on, a.outcome]), [['erin', 'llm.a', 'done']], 'what a breaker does of itself is nobody\'s act');
  assert.deepEqual((await who('silenced')).acts.map((a) => [a.who, a.on, a.until]), [['dave', 'silence-7', '2031-01-01T00:00:00.000Z']]);
  assert.deepEqual((await who('froze', '--actor', 'alice')).acts.map((a) => a.who), ['alice']);
  assert.deepEqual((await who('froze', '--until', '2020-01-01')).acts, []);
  const whoRows = table((await cli('who', 'froze', '--format', 'csv')).out);
  assert.deepEqual(whoRows.map((r) => [r.whole, r.who, r.on, r.why, r.outcome, r.intended_hash || r.ended_hash]),
    froze.acts.map((a) => ['yes', a.who, a.on, a.why, a.outcome, (a.evidence.intended ?? a.evidence.ended).hash]));
  const text = await cli('who', 'unfroze');
  assert.match(text.out, /alice +agent\.unfreeze +mcp-1/);
  assert.match(text.out, /whole, signed up to record/);
  assert.equal((await cli('who', 'baked')).code, 2);

  // A proof, and one that was changed.
  await t.close();
  const proof = await t.stack.cli(['audit', 'proof', told[0].id]);
  assert.equal(proof.code, 0, proof.err);
  const file = path.join(t.stack.dir, 'proof.json');
  fs.writeFileSync(file, proof.out);
  const held = JSON.parse(proof.out);
  const checked = await cli('proof', '--check', file);
  assert.equal(checked.code, 0, checked.err);
  assert.match(checked.out, /^proven: record/);
  assert.match(checked.out, new RegExp(told[0].id));
  assert.equal((await cli('proof', '--check', file, '--key', held.public_key)).code, 0);
  assert.equal((await cli('proof', '--check', file, '--key', '00'.repeat(32))).code, 1, 'another key does not vouch for it');
  fs.writeFileSync(file, JSON.stringify({ ...held, sequence: held.sequence + 1 }));
  const wrong = await cli('proof', '--check', file);
  assert.equal(wrong.code, 1);
  assert.match(wrong.err, /NOT PROVEN/);
  assert.equal((await cli('proof', '5')).code, 2, 'which of two trails?');
  assert.equal((await cli('proof', '5', t.dir(0))).code, 0);
  assert.equal((await cli('proof', 'no-such-id')).code, 1);
  assert.equal((await cli('proof', '9999999', t.dir(0))).code, 1);

  // A trail that went on in a second directory: named as DIR:DIR2, and found by the settings.
  const second = path.join(t.stack.dir, 'second', 'host-audit-0');
  fs.mkdirSync(second, { recursive: true });
  const moved = segments(t.dir(0)).at(-1);
  fs.renameSync(path.join(t.dir(0), moved), path.join(second, moved));
  assert.equal((await cli('search', '--json', t.dir(0))).code, 1, 'its end is not there');
  const both = await cli('search', '--json', `${t.dir(0)}:${second}`);
  assert.equal(both.code, 0, both.err);
  t.stack.writeSettings(`audit: { second_dir: "${path.dirname(second)}" }\n`);
  assert.equal((await cli('export')).code, 0);
  assert.equal(lines((await cli('export', '-c', t.stack.config)).out).length, all.length);
  assert.equal(verifyTrail([load(t.dir(0)), load(second)]).whole, true);
  fs.renameSync(path.join(second, moved), path.join(t.dir(0), moved));

  // A trail that is not whole: said first, shown all the same, and 1.
  const [seg] = segments(t.dir(0));
  const bytes = fs.readFileSync(path.join(t.dir(0), seg));
  bytes[200] ^= 1;
  fs.writeFileSync(path.join(t.dir(0), seg), bytes);
  const broken = await cli('search', '--json', '--action', 'agent.freeze');
  assert.equal(broken.code, 1);
  assert.match(broken.err, /^NOT WHOLE: .*record 1/);
  const first = lines(broken.out)[0];
  assert.equal(first.whole, false);
  assert.equal(first.problems[0].file, seg);
  assert.equal((await cli('search', '--action', 'agent.freeze')).out.startsWith('NOT WHOLE'), true);
  const view = await cli('who', 'froze', '--format', 'json');
  assert.equal(view.code, 1);
  assert.equal(JSON.parse(view.out).trails[0].whole, false);
  const marked = await cli('who', 'froze', '--format', 'csv');
  assert.equal(marked.code, 1);
  assert.match((await cli('who', 'froze')).out, /^NOT WHOLE/);
}, 2));

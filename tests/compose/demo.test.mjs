// demo.test.mjs - the story of profile demo on the running suite: one command, twice in a row, and the operator's command after it.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { noEngine, SERVICES, withProject } from './lib/compose.mjs';

const STEPS = ['the suite, the simulators and the agent are looked at', 'the primary LLM is gone', 'the backup LLM is gone, too', 'both LLMs are there again', 'the audit trail is verified'];
const MARKS = ['breaker opens', 'agent is moved to the backup', 'e-mail is refused', 'chat accepts the alert', 'agent is put under security fallback',
  'backend enforces strict policies', 'agent is brought back to its primary', "backend's override is released", 'the incident is validated', 'its report is written', 'whole'];

// Everything that must be in the timeline, in its order; and a figure for each thing measured.
function checkTimeline(text) {
  let at = 0;
  for (const s of STEPS) {
    const found = text.indexOf(s, at);
    assert.ok(found >= 0, `${s}:\n${text}`);
    at = found;
  }
  for (const m of MARKS) assert.match(text, new RegExp(`\\+\\d+\\.\\d{3} s {2}ok {2}${m}`), m);
  for (const f of ['detection', 'fallback', 'ack', 'first alert', 'failback', 'override', 'validated', 'release']) assert.match(text, new RegExp(`^\\s+${f}\\s+[\\d.]+ (ms|s)`, 'm'), f);
  assert.match(text, /every step happened, in [\d.]+ s/);
}

describe('profile demo', { skip: noEngine }, () => {
  test('the story is one command, and can be told again', { timeout: 900000 }, () => withProject('demo', {}, async (p) => {
    for (let i = 0; i < 2; i++) {
      const r = await p.compose(['--profile', 'demo', 'run', '--rm', '-T', 'story'], { timeout_ms: 420000 });
      assert.equal(r.code, 0, `${r.out}\n${r.err}`);
      checkTimeline(r.out);
      assert.doesNotMatch(r.err, /warn|deprecat|obsolete/i, 'compose has nothing to complain of');
    }

    // The suite goes on, and everything is as it was.
    const containers = await p.healthy();
    for (const s of SERVICES) assert.ok(containers.some((c) => c.service === s), s);
    const status = await p.run('status', '--json');
    assert.equal(status.code, 0, `${status.out}\n${status.err}`);
    assert.deepEqual(JSON.parse(status.out).problems, []);

    // What an operator asks afterwards.
    const incidents = await p.run('incident', 'list', '--all');
    assert.equal(incidents.code, 0, incidents.err);
    const ids = incidents.out.match(/\b20\d{6}-\d{6}-[0-9a-f]{10}\b/g);
    assert.equal(new Set(ids).size, 2, incidents.out);
    const report = await p.run('continuity', 'report', ids[0], '--print');
    assert.equal(report.code, 0, report.err);
    assert.match(report.out, /no LLM is usable/);
    const ping = await p.run('ping');
    assert.equal(ping.code, 0, ping.err);
    for (const s of SERVICES) assert.match(ping.out, new RegExp(`^redoubt-${s}\\s`, 'm'));
    const verify = await p.run('audit', 'verify', '/var/lib/redoubt/audit/0');
    assert.equal(verify.code, 0, `${verify.out}\n${verify.err}`);
  }));
});

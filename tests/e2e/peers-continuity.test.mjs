// peers-continuity.test.mjs - what users of other backup and chaos tools suffer from does not happen here. The table in tests/README.md says which.
//
// One service with real restic, one repository; each test has a source of its own. The one that damages the repository comes last.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { decode } from './lib/contract.mjs';
import { withStack } from './lib/stack.mjs';
import { slow, until } from './lib/wait.mjs';

const LIMIT = 60000;
const settings = (dir, drills = '') => `alert:
  channels: [{ name: record, type: file, path: ${path.join(dir, 'alerts.jsonl')} }]
  routes: [{ min_severity: info, channels: [record] }]
continuity:
  repository: { repository: ${dir}/repository, password_file: ${dir}/password }
  backups:
${['stops', 'tested', 'empties', 'never'].map((s) => `    - { name: ${s}, kind: files, path: [${dir}/${s}], every: ${4 * slow}s, late: ${12 * slow}s, timeout: ${20 * slow}s }\n`).join('')}${drills}  lease_ttl: 500ms
`;
const GHOST = '  drills: [{ name: ghost-day, drill: llm-outage, agent: ghost, every: 1h }]\n';

test('peers: backups', { timeout: 300000 * slow }, async (t) => {
  await withStack('peers-continuity', (stack) => {
    for (const s of ['stops', 'tested', 'empties']) {
      fs.mkdirSync(path.join(stack.dir, s));
      fs.writeFileSync(path.join(stack.dir, s, 'data'), `${s} `.repeat(20000));
    }
    fs.writeFileSync(path.join(stack.dir, 'password'), 'a long secret');
    // The program as it is, but for what hangs while the file `hang` is there: no error, no end.
    const restic = path.join(stack.dir, 'restic-wrapper');
    fs.writeFileSync(restic, `#!/bin/sh
case " $* " in *" backup "*"/stops"*) while [ -e ${stack.dir}/hang ]; do sleep 0.1; done ;; esac
exec restic "$@"
`, { mode: 0o755 });
    return settings(stack.dir, GHOST);
  }, async (stack) => {
    const nc = await stack.nats();
    const alerts = new Map(); // what is open, by the end of its key
    nc.subscribe('redoubt.v1.alert', { callback: (_e, m) => {
      const a = decode('Alert', m.data);
      if (a.resolved) alerts.delete(a.dedup_key);
      else alerts.set(a.dedup_key, a);
    } });
    const p = stack.procs.get('continuity');
    Object.assign(p, { command: 'env', args: [`REDOUBT_RESTIC=${stack.dir}/restic-wrapper`, p.command, ...p.args] });
    stack.run('continuity');
    const status = async () => {
      const r = await stack.cli(['continuity', 'status', '--json']);
      return r.out ? JSON.parse(r.out) : { backups: [] };
    };
    const backup = async (source) => (await status()).backups.find((b) => b.source === source);
    const told = (source, ...what) => until(() => `an alert that ${source} is ${what.join(' or ')}; there are: ${[...alerts.keys()]}`,
      () => what.map((w) => alerts.get(`continuity/backup/${source}/${w}`)).find((a) => a), LIMIT);
    const proven = (source, after = 0) => until(`a proven copy of ${source}`, async () => {
      const b = await backup(source);
      return b?.verifiedPointUnixMs > after && b;
    }, LIMIT);

    await t.test('copies are restored and compared by themselves, and recovery is timed', async () => {
      await proven('tested');
      const b = await until('a test restore that nobody asked for', async () => {
        const now = await backup('tested');
        return now.testedUnixMs > 0 && now;
      }, LIMIT);
      assert.ok(b.testTookMs > 0, 'how long it takes is known');
      assert.ok(b.files > 0 && b.bytes > 100000);
      assert.match((await stack.cli(['continuity', 'status'])).out, /tested +FILES/);
      const rto = await until('it to count as shown', async () => {
        const o = (await status()).objectives.find((x) => x.objective === 'rto_data');
        return o.hasDemonstrated && o;
      }, LIMIT);
      assert.match(rto.demonstratedBy, /restore/);
      assert.equal(rto.verdict, 'MET');
      // A person may have it done now; who and why is on record.
      const r = await stack.cli(['continuity', 'test', 'tested', '--by', 'eve', '--reason', 'before the audit']);
      assert.equal(r.code, 0, r.out + r.err);
      await until('another test restore', async () => (await backup('tested')).testedUnixMs > b.testedUnixMs, LIMIT);
    });

    await t.test('what was never saved is told', async () => {
      const a = await told('never', 'missing', 'empty', 'late');
      assert.ok(['SEVERITY_HIGH', 'SEVERITY_CRITICAL'].includes(a.severity));
      const r = await stack.cli(['status']);
      assert.match(r.out, /backup never: /);
      assert.equal(r.code, 1);
    });

    await t.test('what has become empty is told, and does not pass for a good copy', async () => {
      const good = await proven('empties');
      fs.rmSync(path.join(stack.dir, 'empties', 'data'));
      await told('empties', 'empty', 'shrunken');
      const now = await backup('empties');
      assert.ok(now.verifiedSnapshot !== '' && now.bytes <= good.bytes);
      fs.writeFileSync(path.join(stack.dir, 'empties', 'data'), 'empties '.repeat(20000));
      await until('that to be over', () => ![...alerts.keys()].some((k) => k.startsWith('continuity/backup/empties/')), LIMIT);
    });

    await t.test('copies that stop without an error are late, and people are told', async () => {
      const before = await proven('stops');
      fs.writeFileSync(path.join(stack.dir, 'hang'), '');
      const a = await told('stops', 'late');
      assert.match(a.summary, /stops/);
      assert.match((await stack.cli(['status'])).out, /backup stops: /);
      fs.rmSync(path.join(stack.dir, 'hang'));
      await proven('stops', before.verifiedPointUnixMs);
      await until('that to be over', () => !alerts.has('continuity/backup/stops/late'), LIMIT);
    });

    await t.test('a drill whose target is gone says so, and can be removed', async () => {
      const drills = async () => (await status()).drills.map((d) => d.name);
      await until('the drill to be known', async () => (await drills()).includes('ghost-day'), LIMIT);
      const r = await stack.cli(['continuity', 'drill', 'ghost-day', '--by', 'eve', '--reason', 'is it still there?']);
      assert.notEqual(r.code, 0, r.out);
      assert.match(r.err, /its agent is not in the settings any more/, 'it is said why');
      assert.ok(stack.running('continuity'));
      stack.writeSettings(settings(stack.dir));
      stack.procs.get('continuity').child.kill('SIGHUP');
      await until('the drill to be gone', async () => !(await drills()).includes('ghost-day'), LIMIT);
      await until('nothing of it to be open', () => ![...alerts.keys()].some((k) => k.startsWith('continuity/drill/ghost-day/')), LIMIT);
    });

    await t.test('a repository that lies is found', async () => {
      const dir = path.join(stack.dir, 'repository/data');
      let n = 0;
      for (const f of fs.readdirSync(dir, { recursive: true, withFileTypes: true }).filter((x) => x.isFile())) {
        const file = path.join(f.parentPath ?? f.path, f.name);
        const bytes = fs.readFileSync(file);
        for (let i = 0; i < bytes.length; i += 97) bytes[i] ^= 0x55;
        fs.chmodSync(file, 0o600);
        fs.writeFileSync(file, bytes);
        n++;
      }
      assert.ok(n > 0, 'there was something to damage');
      await stack.cli(['continuity', 'test', 'tested', '--by', 'eve', '--reason', 'is it whole?']);
      const a = await told('tested', 'damaged', 'differs', 'failed');
      assert.ok(a.detail.length > 0, 'and it says why');
      assert.equal((await stack.cli(['status'])).code, 1);
    });
    const end = await stack.kill('continuity', 'SIGTERM');
    assert.equal(end.code, 0);
  }, { services: ['audit', 'alert'] });
});

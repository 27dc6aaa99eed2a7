// peers-rollback.test.mjs - what users of other tools suffer from when they go back to an earlier version, one test each, on the real service in a town (lib/rollback-town.mjs). What only a
// real engine or API can show is tested there: compose configs that are lost, stop-first and duplicates by tests/integration/test_rollback_docker*.c; ConfigMaps and deadlines of rollouts by
// tests/integration/test_rollback_kube*.c; every phase with every order and every failure by the simulation, tests/unit/test_rollback_sim*.c.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { decode } from './lib/contract.mjs';
import { NAME, withTown } from './lib/rollback-town.mjs';
import { until } from './lib/wait.mjs';

const WHO = ['--by', 'eve', '--reason', 'v2 is blind'];
const ok = async (cli, ...args) => {
  const r = await cli(...args);
  assert.equal(r.code, 0, `rollback ${args.join(' ')}: ${r.out}${r.err}`);
  return r.out;
};
const doc = async (cli) => JSON.parse((await cli('status', NAME, '--json')).out);
const phase = (cli, ...names) => until(() => `phase ${names}`, async () => {
  const d = await doc(cli);
  return names.includes(d.phase) && d;
}, 40000);

test('the way back and the way back from it', { timeout: 240000 }, async (t) => {
  await withTown('peers-rb', async (stack, town, cli) => {
    const nc = await stack.nats();
    const jsm = await nc.jetstreamManager();
    const record = async (id) => decode('VersionRecord', (await jsm.direct.getMessage('REDOUBT_STATE', { last_by_subj: `redoubt.v1.version.${NAME}.${id}` })).data);
    const v1 = JSON.parse(await ok(cli, 'versions', NAME, '--json')).versions.find((v) => v.name === 'v1').id;
    const first = await record(v1);
    const clean = () => { town.moves.length = 0; town.orders.length = 0; };
    const as_before = () => {
      assert.deepEqual(town.share, [100, 0]);
      assert.deepEqual(town.instances.map((i) => [i.version, i.side, i.ready]), [['v2', 0, true], ['v2', 0, true]]);
      assert.deepEqual(town.wrong, []);
    };

    await t.test('how to go back is found without reading anything (kamal 1658)', async () => {
      const command = (await ok(cli)).split('\n').find((l) => l.includes('start') && l.includes('--by')).trim().split(' ');
      assert.deepEqual(command, ['redoubt', 'rollback', 'start', NAME, '--to', 'v1', '--by', 'NAME', '--reason', 'WHY']);
    });

    await t.test('no traffic goes to instances that are not there yet (argo-rollouts 4612, 4852)', async () => {
      town.never_ready.add('v1');
      await ok(cli, 'start', NAME, ...WHO);
      const d = await phase(cli, 'HOLD');
      assert.deepEqual([d.hold, town.share, town.moves], ['CAPACITY', [100, 0], []]);
      assert.match(d.reason, /it does not become ready/);
    });

    await t.test('a deadline that passed while it could not go on does not fail what goes on later (kubernaut 199)', async () => {
      town.never_ready.clear();
      for (const i of town.of('v1')) i.ready = true;
      await ok(cli, 'resume', NAME, ...WHO);
      await until('traffic on v1', () => town.share[1] > 0);
      assert.equal((await doc(cli)).holds, 1);
    });

    await t.test('an abort is heard at once and reaches its end (argo-rollouts 4841, 4461)', async () => {
      await ok(cli, 'abort', NAME, ...WHO);
      await phase(cli, 'ABORTED');
      as_before();
    });

    await t.test('going back twice uses the same spec: nothing has overwritten it (moby 37693)', async () => {
      assert.deepEqual(await record(v1), first);
      assert.deepEqual(JSON.parse(first.spec), town.versions.get('v1').spec);
      clean();
    });

    await t.test('a breach is seen also while it waits for something else (flagger 1801)', async () => {
      await ok(cli, 'start', NAME, ...WHO);
      await until('the first instances of v1', () => town.of('v1').length === 2);
      town.of('v1')[0].ready = false; // one is enough for 50 %, and the next step waits for the other one
      await until('half of the traffic', async () => town.share[1] === 50 || (await doc(cli)).phase === 'HOLD');
      if ((await doc(cli)).phase !== 'HOLD') town.sick.add('v1');
      const d = await phase(cli, 'HOLD');
      assert.ok(['REGRESSION', 'CAPACITY'].includes(d.hold), d.hold);
      if (town.sick.size) assert.equal(d.hold, 'REGRESSION', d.reason);
      assert.ok(town.share[1] <= 50);
      await ok(cli, 'abort', NAME, ...WHO);
      await phase(cli, 'ABORTED');
      town.sick.clear();
      as_before();
      clean();
    });

    await t.test('silence of the checks is no consent (argo-rollouts 3850)', async () => {
      await ok(cli, 'start', NAME, ...WHO);
      await until('traffic on v1', () => town.share[1] > 0);
      town.silent.add('v1');
      const d = await phase(cli, 'HOLD', 'DONE');
      assert.deepEqual([d.phase, d.hold], ['HOLD', 'NO_DATA']);
      assert.ok(town.share[0] > 0);
      town.silent.clear();
      await ok(cli, 'abort', NAME, ...WHO);
      await phase(cli, 'ABORTED');
      as_before();
      clean();
    });

    await t.test('what cannot be brought up costs nothing of what runs (containrrr/watchtower 1906)', async () => {
      town.refuse.set('up', { code: 1, text: 'no such network' });
      await ok(cli, 'start', NAME, ...WHO);
      const d = await phase(cli, 'HOLD', 'ABORTED');
      assert.match(d.reason, /no such network/);
      assert.deepEqual(town.orders.filter(([v]) => v === 'stop' || v === 'remove'), []);
      assert.equal(town.of('v2').filter((i) => i.ready).length, 2);
      town.refuse.clear();
      if (d.phase === 'HOLD') await ok(cli, 'abort', NAME, ...WHO);
      await phase(cli, 'ABORTED');
      as_before();
      clean();
    });

    await t.test('the former version is not overwhelmed by getting everything back at once, and gets it by steps (flagger 869, 1694)', async () => {
      town.unfit.add('v1');
      await ok(cli, 'start', NAME, ...WHO);
      const held = await phase(cli, 'HOLD');
      assert.deepEqual([held.heldPhase, held.hold, town.share], ['VERIFY', 'REGRESSION', [0, 100]]);
      assert.ok(town.of('v2').every((i) => !i.running), 'v2 is stopped, and still there');
      town.unfit.clear();
      town.never_ready.add('v2'); // it will take its time to start
      clean();
      await ok(cli, 'abort', NAME, ...WHO);
      await until('v2 to be started', () => town.of('v2').some((i) => i.running));
      assert.deepEqual([town.share, town.moves], [[0, 100], []], 'nothing goes to what is not ready');
      town.never_ready.clear();
      for (const i of town.of('v2')) i.ready = true;
      await phase(cli, 'ABORTED');
      assert.deepEqual(town.moves.map((m) => m.share[0]), [10, 25, 50, 100]);
      as_before();
      clean();
    });

    await t.test('a service that is killed in the middle leaves nothing double (compose 1573)', async () => {
      await ok(cli, 'start', NAME, ...WHO);
      for (const until_then of [() => town.of('v1').length > 0, () => town.share[1] >= 50, () => town.share[1] === 100]) {
        await until('the next moment to be killed in', until_then);
        await stack.kill('rollback');
        stack.run('rollback');
      }
      const d = await phase(cli, 'DONE');
      assert.equal(d.holds, 0, d.reason);
      assert.deepEqual(town.instances.map((i) => [i.version, i.ready]), [['v1', true], ['v1', true]]);
      assert.deepEqual([town.share, town.wrong], [[0, 100], []]);
      assert.deepEqual(town.moves.map((m) => m.share[0]), [50, 25, 10, 0], 'each step once');
      assert.deepEqual(town.view().versions[0].spec, JSON.parse(first.spec));
    });

    await t.test('what cannot be made again as it was is said, and refused before anything is touched (nicholas-fedor/watchtower 2378)', async () => {
      const current = async (name) => until(`${name} to be the current version`, async () => {
        const d = await doc(cli);
        return d.versions.some((v) => v.name === name && v.id === d.currentVersion && (v.state === 'VERIFIED' || name === 'v4'));
      }, 40000);
      town.deploy('v3', { gaps: ['compose config `rules`'] });
      await current('v3');
      town.deploy('v4');
      await current('v4');
      clean();
      const r = await cli('start', NAME, ...WHO, '--to', 'v3');
      assert.equal(r.code, 4);
      assert.match(r.err, /could not be recorded.*force/);
      assert.match(await ok(cli, 'versions', NAME), / v3 .*compose config `rules`/);
      assert.deepEqual([town.moves, town.orders.filter(([v]) => v !== 'keep' && v !== 'check')], [[], []]); // neither changes anything
    });
  }, { capacity_wait: '4s', step: '200ms' });
});

const restic = (() => { try { return execFileSync('sh', ['-c', 'command -v restic']).length > 0; } catch { return false; } })();

test('data that are newer than the code', { timeout: 240000, skip: restic ? false : 'restic is not installed' }, async (t) => {
  const data = (dir) => path.join(dir, 'learning');
  const write = (dir, text) => fs.writeFileSync(path.join(data(dir), 'model'), text);
  const read = (dir) => fs.readFileSync(path.join(data(dir), 'model'), 'utf8');
  await withTown('peers-data', async (stack, town, cli) => {
    const dir = stack.dir;
    const seen = [];
    town.on_run = (version) => { seen.push(['run', version, town.of('v1').length]); write(dir, 'schema 1, migrated'); };
    town.on_up = (version) => seen.push(['up', version, read(dir)]);

    await t.test('the newer version migrates them down, before the older one starts (meho 1607, helm 5825)', async () => {
      await ok(cli, 'run', NAME, ...WHO);
      assert.deepEqual(seen, [['run', 'v2', 0], ['up', 'v1', 'schema 1, migrated']]);
      assert.deepEqual(town.migrations.map((m) => m.slice(1)), [['down', '2', '1']]);
      const lineage = JSON.parse(await ok(cli, 'lineage', NAME, '--json')).lineage;
      assert.ok(lineage.length >= 1 && lineage.every((l) => l.verified));
      assert.equal(lineage.at(-1).versionName, 'v2');
    });

    await t.test('what is restored is there before the older version starts, and what it replaced is kept (start-technologies 3478)', async () => {
      const [snapshot] = JSON.parse(await ok(cli, 'lineage', NAME, '--json')).lineage.slice(-1);
      // v1 goes on learning; then v3 is deployed, and learns something that is not to be trusted.
      town.deploy('v3', { schema: 2 });
      await until('v3 to be verified', async () => JSON.parse(await ok(cli, 'versions', NAME, '--json')).versions.some((v) => v.name === 'v3' && v.state === 'VERIFIED'), 40000);
      write(dir, 'poisoned');
      seen.length = 0;
      const tooNew = await cli('start', NAME, ...WHO, '--to', 'v1', '--restore', snapshot.snapshot);
      assert.equal(tooNew.code, 4, 'v1 could not read it');
      assert.match(tooNew.err, /schema/);
      await ok(cli, 'run', NAME, ...WHO, '--to', 'v1', '--restore', snapshot.snapshot, '--force');
      assert.deepEqual(seen, [['up', 'v1', 'schema 2']]);
      assert.equal(read(dir), 'schema 2');
      const kept = JSON.parse(await ok(cli, 'lineage', NAME, '--json')).lineage;
      assert.ok(kept.length >= 2, 'what was there is a snapshot, too');
    });
    assert.deepEqual(town.wrong, []);
  }, {
    step: '200ms',
    body_of: (v) => ({ schema: v === 'v1' ? 1 : 2 }),
    prepare: (dir) => {
      fs.mkdirSync(data(dir));
      write(dir, 'schema 2');
      fs.writeFileSync(path.join(dir, 'password'), 'not a secret\n', { mode: 0o600 });
      execFileSync('restic', ['init', '-q', '-r', path.join(dir, 'repository'), '--password-file', path.join(dir, 'password')], { env: { ...process.env, XDG_CACHE_HOME: path.join(dir, 'cache') } });
    },
    more: (dir) => `      data:
        repository: ${path.join(dir, 'repository')}
        password_file: ${path.join(dir, 'password')}
        path: [${data(dir)}]
        migrate: ["down", "{{from_schema}}", "{{to_schema}}"]
`,
  });
});

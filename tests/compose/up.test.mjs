// up.test.mjs - `docker compose up` as a user has it: quick, small and shut in; stopped and started again without a loss.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { ceHeaders, encode } from '../e2e/lib/contract.mjs';
import { SERVICES, api, noEngine, pause, settingsFile, slow, tag, until, withProject } from './lib/compose.mjs';
import { memory, status } from './lib/look.mjs';

const skip = noEngine;
const MB = 1000000;
const figure = (what, value) => console.log(`| ${what} | ${value} |`);
const ALL = [...SERVICES, 'nats', 'redis'];
const TOOLS = ['rollback', 'continuity'];

test('images are small: one layer of libraries that all share, a few MB on it', { skip }, async () => {
  const layers = async (image) => {
    const history = await api('GET', `/images/redoubt/${image}:${tag}/history`);
    return history.filter((l) => l.Size > 0).reverse(); // the base first
  };
  const named = (list) => list.find((l) => /libnats/.test(l.CreatedBy));
  const cli = await layers('cli');
  const libraries = named(cli);
  assert.ok(libraries.Size < 40 * MB, `the layer of libraries has ${libraries.Size} bytes`);
  figure('image: base', `${Math.round(cli[0].Size / MB)} MB`);
  figure('image: run-time libraries, shared', `${(libraries.Size / MB).toFixed(1)} MB`);
  const shared = async (image) => (await api('GET', `/images/redoubt/${image}:${tag}/json`)).RootFS.Layers;
  const first = await shared('cli');
  const own = {};
  for (const service of SERVICES) {
    const all = await layers(service), at = all.indexOf(named(all));
    assert.deepEqual((await shared(service)).slice(0, at + 1), first.slice(0, at + 1), `${service} stands on the same layers`);
    // The command comes first, for the health check: a layer that they share, too. The last is the service's own.
    own[service] = all.at(-1).Size;
    assert.match(all.at(-1).CreatedBy, new RegExp(`SERVICE|redoubt-${service}|file:`));
    assert.equal((await shared(service)).length, first.length + (TOOLS.includes(service) ? 2 : 1), `${service} has one layer of its own`);
    if (!TOOLS.includes(service)) assert.deepEqual((await shared(service)).slice(0, -1), first, `${service} stands on the command's image`);
    assert.ok(own[service] < 2 * MB, `${service} has ${own[service]} bytes of its own`);
    if (TOOLS.includes(service)) figure(`image: restic and git, below ${service}`, `${Math.round(all.find((l) => /restic/.test(l.CreatedBy)).Size / MB)} MB`);
  }
  figure('image: on top, per service', `${Object.entries(own).map(([s, n]) => `${s} ${(n / MB).toFixed(1)}`).join(', ')} MB`);
});

test('up, with no other step: healthy, shut in, small; and a crash is answered', { skip }, async () => {
  await withProject('up', {}, async (p) => {
    const began = Date.now();
    await p.up();
    figure('up to all healthy, first time', `${((Date.now() - began) / 1000).toFixed(1)} s`);

    for (const service of ALL) {
      const c = await p.inspect(service), h = c.HostConfig, kernel = status(c.State.Pid);
      assert.equal(kernel.Uid.split(/\s+/)[0], '10001', `${service} is an unprivileged user`);
      for (const set of ['CapEff', 'CapPrm', 'CapBnd', 'CapAmb']) assert.match(kernel[set], /^0+$/, `${service}: ${set}`);
      assert.equal(kernel.NoNewPrivs, '1', service);
      assert.ok(h.ReadonlyRootfs && h.Memory > 0 && h.PidsLimit > 0, `${service} is limited: ${JSON.stringify([h.ReadonlyRootfs, h.Memory, h.PidsLimit])}`);
      assert.equal(h.RestartPolicy.Name, 'unless-stopped');
      assert.ok(h.LogConfig.Config['max-size'] && h.LogConfig.Config['max-file'], `${service}'s log turns`);
      assert.deepEqual(c.Config.Env.filter((e) => /PASSWORD(?!_FILE)|SECRET/.test(e.split('=')[0])), [], `${service}: secrets are files`);
      const write = await p.exec(service, ['sh', '-c', ': >/etc/redoubt-was-here']);
      assert.match(write.err, /Read-only file system/, service);
    }
    // What can be reached from outside: one port, from this host.
    const open = [];
    for (const c of await p.containers()) {
      const ports = (await api('GET', `/containers/${c.id}/json`)).NetworkSettings.Ports ?? {};
      for (const [port, bound] of Object.entries(ports)) for (const b of bound ?? []) open.push(`${c.service} ${port} ${b.HostIp}`);
    }
    assert.deepEqual(open, ['nats 4222/tcp 127.0.0.1']);
    assert.equal((await p.inspect('setup')).State.ExitCode, 0);

    // Idle: the least of some looks, since health checks come and go.
    let least;
    for (let i = 0; i < 5; i++) {
      const now = await memory(p);
      if (!least || now.rss < least.rss) least = now;
      await pause(1000);
    }
    figure('memory of the idle suite with NATS and Redis', `RSS ${Math.round(least.rss / MB)} MB; shared pages counted once: ${Math.round(least.pss / MB)} MB`);
    figure('of that, RSS', Object.entries(least.of).map(([s, n]) => `${s} ${Math.round(n / MB)}`).join(', '));
    assert.ok(least.rss < 150 * MB, `the idle suite takes ${least.rss} bytes: ${JSON.stringify(least.of)}`);

    const before = await p.inspect('guard');
    await p.crash('guard');
    await until('the guard to be back', async () => {
      const c = await p.inspect('guard');
      return c.State.Running && c.State.Pid !== before.State.Pid && c.RestartCount === 1;
    }, 60000);
    await p.healthy(['guard']);
  });
});

const SETTINGS = `alert:
  channels: [{name: record, type: file, path: /var/lib/redoubt/alert/alerts.jsonl}]
  routes: [{name: all, channels: [record]}]
`;

test('servers come a minute late; stopped in the middle of work and started again, nothing is lost; wrong settings end it', { skip }, async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'redoubt-up-'));
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }));
  fs.chmodSync(dir, 0o755);
  await withProject('late', { config: settingsFile(dir, SETTINGS) }, async (p) => {
    await p.up(['setup'], { wait: false });
    await until('setup to end', async () => (await p.inspect('setup')).State.Status === 'exited', 60000);
    await p.up(SERVICES, { args: ['--no-deps'], wait: false });
    const late = pause(60000);

    // Meanwhile: what is wrong is said in one line, and that is the end.
    const ends = async (config) => {
      const r = await p.compose(['run', '--rm', '--no-deps', '-T', 'health'], { env: { REDOUBT_CONFIG: config } });
      return { code: r.code, said: (r.out + r.err).split('\n').filter((l) => l && !/^((ERROR: )?\d+$|Creating|WARNING: The .* variable| *Container )/.test(l)) };
    };
    const wrong = path.join(dir, 'wrong.yaml');
    fs.writeFileSync(wrong, `${fs.readFileSync(path.join(dir, 'redoubt.yaml'), 'utf8')}alarm: {}\n`);
    const bad = await ends(wrong);
    assert.equal(bad.code, 2, bad.said.join('\n'));
    assert.equal(bad.said.length, 1, bad.said.join('\n'));
    assert.match(bad.said[0], /redoubt\.yaml:\d+: .*alarm/);
    const folder = path.join(dir, 'folder');
    fs.mkdirSync(folder);
    const isDir = await ends(folder);
    assert.equal(isDir.code, 2, isDir.said.join('\n'));
    assert.match(isDir.said.join('\n'), /redoubt\.yaml: cannot be read: Is a directory; name the settings file/);
    const none = await ends(path.join(dir, 'none.yaml'));
    assert.notEqual(none.code, 0);
    assert.match(none.said.join('\n'), /none\.yaml/);

    await late;
    for (const service of SERVICES) {
      const c = await p.inspect(service);
      assert.ok(c.State.Running && c.RestartCount === 0, `${service} waits for its servers: ${c.State.Status}, ${c.RestartCount} restarts`);
    }
    const came = Date.now();
    await p.up(['nats', 'redis'], { args: ['--no-deps'] });
    await p.healthy();
    figure('servers 60 s late: their start to all healthy', `${((Date.now() - came) / 1000).toFixed(1)} s`);
    for (const service of SERVICES) assert.equal((await p.inspect(service)).RestartCount, 0, service);

    // At the last moment: what the bus has taken, and nobody has told yet.
    const nc = await p.nats('health'), js = nc.jetstream(), ids = [];
    for (let i = 0; i < 30; i++) {
      const id = `last-moment-${i}`;
      const alert = { id, dedup_key: `last/${i}`, severity: 'SEVERITY_HIGH', source: 'test', summary: `${id}.`, raised_unix_ms: Date.now() };
      await js.publish('redoubt.v1.alert', encode('Alert', alert), { headers: ceHeaders('Alert', id, 'test'), msgID: id });
      ids.push(id);
    }
    await p.ok(['stop']);
    let longest = 0;
    for (const service of SERVICES) {
      const c = await p.inspect(service);
      assert.equal(c.State.ExitCode, 0, `${service} ends by itself: ${await p.logs(service)}`);
      const log = await p.logs(service), at = (event) => Date.parse(log.match(new RegExp(`ts=(\\S+) .* event="?${event}"?\\s*$`, 'm'))?.[1]);
      const took = at('ended') - at('draining');
      assert.ok(took >= 0 && took < 5000 * slow, `${service} ended ${took} ms after it was told to`);
      longest = Math.max(longest, took);
    }
    figure('stop: the longest of all services', `${(longest / 1000).toFixed(2)} s`);
    await p.up();
    const told = async () => (await p.exec('alert', ['cat', '/var/lib/redoubt/alert/alerts.jsonl'])).out;
    let text = '';
    await until(() => `every alert to be told: ${ids.filter((id) => !text.includes(`${id}.`))}`, async () => {
      text = await told();
      await pause(300);
      return ids.every((id) => text.includes(`${id}.`));
    }, 90000);
  });
});

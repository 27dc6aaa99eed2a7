// scale.test.mjs - containers of every service come, go and are killed while outages come and go: nothing lost, nothing twice. See e2e/lib/scale-story.mjs.
//
// REDOUBT_SCALE_EVENTS says how many events (default 20); REDOUBT_SCALE_SEED repeats a choice. The world around the suite is this process, on the address that the project's
// own network has on this machine.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { baselineText } from '../e2e/lib/actor.mjs';
import { agentNames, runScaling, settings, withWorld } from '../e2e/lib/scale-story.mjs';
import { api, docker, noEngine, pause, settingsFile, tag, until, withProject } from './lib/compose.mjs';

const EVENTS = Number(process.env.REDOUBT_SCALE_EVENTS ?? 20);
const SEED = Number(process.env.REDOUBT_SCALE_SEED ?? Date.now() % 1e6);
const AGENTS = agentNames(5);
const AGAIN_MS = 300; // after which a killed container is started again

class Town {
  constructor(project, w, dir) {
    Object.assign(this, { project, w, dir, starting: [] });
  }

  async begin(first) {
    Object.assign(this.project.scales, first);
    await this.project.up();
    this.nc = await this.project.nats('agent');
    this.ops = await this.project.nats('operator');
    this.says = { nc: await this.project.nats('health'), service: 'health' };
  }

  // Compose chooses who goes: the highest number.
  scale(service, n) {
    return this.project.scale({ [service]: n }, { wait: false });
  }

  // `docker kill`: the engine takes that for a person's will, so that somebody has to start it again.
  async kill(service, which) {
    const all = await until(`a container of ${service} that runs`, async () => {
      const running = (await this.project.containers(service)).filter((c) => c.state === 'running');
      return running.length > 0 && running;
    }, 60000);
    const { id } = all[Math.floor(which * all.length)];
    await api('POST', `/containers/${id}/kill?signal=KILL`, { fine: [409] });
    this.starting.push(pause(AGAIN_MS).then(() => api('POST', `/containers/${id}/start`, { fine: [404, 409] })));
  }

  async settled(service, n) {
    await Promise.all(this.starting.splice(0));
    await this.project.healthy([service]);
    await until(`${n} of ${service} in the list`, async () => {
      // The service's own user may read the list; nobody else needs to.
      const list = await this.project.redisCli(service, 'ZRANGE', `redoubt:{${service}}:members`, '0', '-1');
      return list.split('\n').filter(Boolean).length === n;
    }, 60000);
  }

  // The bytes of all segments, as they are on the volume now.
  async trails() {
    const to = path.join(this.dir, 'audit');
    fs.rmSync(to, { recursive: true, force: true });
    const [one] = await this.project.containers('audit');
    await docker('cp', `${one.id}:/var/lib/redoubt/audit`, to);
    const files = fs.readdirSync(to, { recursive: true }).filter((f) => f.endsWith('.seg') && !f.includes('set-aside'));
    return files.map((f) => fs.readFileSync(path.join(to, f)));
  }

  // The directories that hold a trail.
  async trailDirs() {
    await this.trails();
    const to = path.join(this.dir, 'audit');
    return fs.readdirSync(to, { recursive: true }).filter((f) => path.basename(f) === 'checkpoint' && !f.includes('set-aside')).map((f) => path.dirname(f));
  }
}

test(`${EVENTS} events`, { skip: noEngine, timeout: 900000 }, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'redoubt-scale-'));
  const at = (name) => path.join(dir, name);
  try {
    fs.chmodSync(dir, 0o755);
    fs.writeFileSync(at('baseline.yaml'), baselineText(), { mode: 0o644 });
    fs.writeFileSync(at('redoubt.yaml'), '', { mode: 0o644 });
    await docker('run', '--rm', '--network', 'none', '-u', '0', '--entrypoint', 'redoubt', '-v', `${dir}:/w`, `redoubt/cli:${tag}`, 'baseline', 'sign', '/w/baseline.yaml', '--by', 'e2e');
    fs.chmodSync(at('baseline.yaml.signoff'), 0o644);
    await withProject('scale', { config: at('redoubt.yaml'), env: { REDOUBT_BASELINE: at('baseline.yaml') } }, async (project) => {
      // The network first: its address here is where the world is found.
      await project.up(['nats']);
      const network = await api('GET', `/networks/${project.name}_bus`);
      await withWorld(network.IPAM.Config[0].Gateway, async (w) => {
        const text = settings(w, AGENTS, { baseline: '"${REDOUBT_BASELINE}"', record: '/var/lib/redoubt/alert/alerts.jsonl' });
        settingsFile(dir, `tilt_hold: 1s\n${text}`);
        const town = new Town(project, w, dir);
        await runScaling(town, { seed: SEED, n: EVENTS, agents: AGENTS });
        // Everybody ends as told, and the trails that they leave verify.
        await project.ok(['stop', '-t', '10'], { timeout_ms: 120000 });
        for (const c of await project.containers()) {
          if (c.oneOff || ['setup', 'nats', 'redis'].includes(c.service)) continue; // nats-server's own way is to end with 1
          const { State } = await api('GET', `/containers/${c.id}/json`);
          assert.equal(State.ExitCode, 0, `${c.name}: ${JSON.stringify(State)}`);
        }
        const trails = await town.trailDirs();
        assert.ok(trails.length > 0);
        for (const d of trails) {
          const r = await project.run('audit', 'verify', `/var/lib/redoubt/audit/${d}`);
          assert.equal(r.code, 0, `audit verify ${d}: ${r.out}${r.err}`);
        }
      });
    });
  } finally {
    if (!process.env.KEEP) fs.rmSync(dir, { recursive: true, force: true });
  }
});

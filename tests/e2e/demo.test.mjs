// demo.test.mjs - the example configuration as it is, every process with the rights that it has in containers: the story of docker-compose's
// profile `demo`, twice in a row, and the ping of their health checks.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { top } from './lib/contract.mjs';
import { RightsStack, ROOMS } from './lib/rights.mjs';
import { freePort, portOpen, withStack } from './lib/stack.mjs';
import { pause, slow, until } from './lib/wait.mjs';

const program = path.join(process.env.REDOUBT_BIN ?? path.join(top, 'build/bin'), 'redoubt');
const SIMS = { primary: ['llm', '--model', 'gpt-4o'], backup: ['llm', '--model', 'gpt-3.5-turbo'], backend: ['backend', '--compact'], slack: ['slack'], mail: ['smtp'] };

class ExampleStack extends RightsStack {
  consumers = [];
  ports = {};
  controls = {};

  writeSettings() {
    fs.copyFileSync(path.join(top, 'deploy/redoubt.yaml'), this.config);
  }

  envOf(name) {
    const at = (sim) => `127.0.0.1:${this.ports[sim]}`;
    return { ...super.envOf(name), ...(name === 'agent' && { NATS_USER: 'agent', NATS_PASSWORD_FILE: path.join(this.dir, 'secrets/agent/nats') }),
      REDOUBT_CONFIG: this.config, REDOUBT_DATA: path.join(this.dir, 'data'), REDOUBT_BASELINE: path.join(top, 'deploy/security-baseline.yaml'),
      NATS_URL: `nats://127.0.0.1:${this.natsPort}`, REDIS_HOST: '127.0.0.1', REDIS_PORT: String(this.redisPort),
      LLM_PRIMARY_URL: `http://${at('primary')}/v1`, LLM_BACKUP_URL: `http://${at('backup')}/v1`, BACKEND_URL: `http://${at('backend')}`, SLACK_URL: `http://${at('slack')}/webhook`, SMTP_URL: `smtp://${at('mail')}`,
      ...(ROOMS.includes(name) && { REDOUBT_INSTANCE_FILE: this.instanceFile(name) }) };
  }

  instanceFile(name) { return path.join(this.dir, `${name}.instance`); }

  // The command as the health check of a service's container runs it: with that service's rights and file.
  async ping(service, args = ['ping']) {
    const as = this.envOf;
    this.envOf = (name) => as.call(this, name === 'cli' ? service : name);
    try { return await this.cli(args); } finally { this.envOf = as; }
  }
}

async function startWorld(stack) {
  for (const [name, args] of Object.entries(SIMS)) {
    stack.ports[name] = await freePort();
    stack.controls[name] = await freePort();
    stack.define(`sim-${name}`, program, ['sim', ...args, '--port', String(stack.ports[name]), '--control', String(stack.controls[name])]);
    stack.run(`sim-${name}`);
    await until(`sim ${name}`, () => portOpen(stack.controls[name]));
  }
  for (const s of ROOMS) stack.run(s);
  stack.define('agent', program, ['sim', 'agent', 'mcp-security-agent', '--rate', '5', '--act-rate', '2']);
  stack.run('agent');
}

test('the story on the example, twice; the ping of health checks', { timeout: 600000 }, () => withStack('demo', '', async (stack) => {
  const early = await stack.ping('guard');
  assert.equal(early.code, 1, 'it has not started');
  assert.match(early.err, /^redoubt ping: the service has not started: there is no .*guard\.instance yet\n$/);
  await startWorld(stack);

  for (const s of ROOMS) {
    await until(`${s} to answer its own health check`, async () => (await stack.ping(s)).code === 0, 60000);
    const [line] = fs.readFileSync(stack.instanceFile(s), 'utf8').split('\n');
    const { out } = await stack.ping(s);
    assert.deepEqual(out.match(/^(\S+) +(\S+) /).slice(1), line.split('.'), 'this very replica, and no other');
    assert.equal(out.trim().split('\n').length, 1);
  }
  const all = await stack.cli(['ping']);
  for (const s of ROOMS) assert.match(all.out, new RegExp(`^redoubt-${s} .* \\d+\\.\\d{3} ms$`, 'm'), 'the operator hears all of them');
  assert.equal((await stack.cli(['ping', 'guard', '--instance', 'another-1'])).code, 1);
  assert.equal((await stack.cli(['ping', 'gu*rd'])).code, 2);

  // A file of a replica that is gone, as after a kill: nobody answers. One that is nonsense is said to be so.
  const file = stack.instanceFile('guard'), was = fs.readFileSync(file, 'utf8');
  fs.writeFileSync(file, 'redoubt-guard.gone-guard-7\n');
  const gone = await stack.ping('guard');
  assert.equal(gone.code, 1);
  assert.match(gone.err, /^redoubt ping: nobody answers \$SRV\.PING\.redoubt-guard\.gone-guard-7\n$/);
  fs.writeFileSync(file, '$SYS.>\n');
  assert.match((await stack.ping('guard')).err, /does not name a service's replica/);
  fs.writeFileSync(file, was);

  const sims = ['primary', 'backup', 'backend', 'mail'].map((s) => `${s}=127.0.0.1:${stack.controls[s]}`).join(',');
  for (let i = 1; i <= 2; i++) {
    const figures = path.join(stack.dir, `story-${i}.json`);
    stack.define(`story-${i}`, program, ['drill', 'demo', '--sims', sims, '--json', figures]);
    const envOf = stack.envOf;
    stack.envOf = (name) => envOf.call(stack, name.startsWith('story') ? 'cli' : name);
    stack.run(`story-${i}`);
    stack.envOf = envOf;
    const end = await Promise.race([stack.procs.get(`story-${i}`).exited, pause(280000 * slow, null, { ref: false })]);
    assert.deepEqual(end, { code: 0, signal: null }, stack.log(`story-${i}`));
    const j = JSON.parse(fs.readFileSync(figures, 'utf8'));
    assert.equal(j.ok && j.live, true);
    for (const s of j.steps) for (const m of s.marks) assert.equal(m.seen, true, `${s.key}.${m.key}`);
    assert.equal(j.steps.length, 5);
    for (const f of j.figures) assert.ok(f.ms >= 0, f.key);
  }

  await until('everything to be normal', async () => (await stack.cli(['status'])).code === 0, 60000);
  const { out } = await stack.cli(['incident', 'list', '--all']);
  assert.equal(new Set(out.match(/\b20\d{6}-\d{6}-[0-9a-f]{10}\b/g)).size, 2, `an incident for each story\n${out}`);
  assert.deepEqual(stack.refusals(), [], 'nobody was refused anything');
  // Interrupted, it leaves the world well.
  stack.define('story-3', program, ['drill', 'demo', '--sims', sims]);
  const envOf = stack.envOf;
  stack.envOf = (name) => envOf.call(stack, name.startsWith('story') ? 'cli' : name);
  stack.run('story-3');
  stack.envOf = envOf;
  const mode = async (sim) => (await (await fetch(`http://127.0.0.1:${stack.controls[sim]}/sim/mode`)).json()).mode;
  await until('the primary to be closed', async () => (await mode('primary')) === 'refuse', 60000);
  await stack.kill('story-3', 'SIGTERM');
  for (const s of ['primary', 'backup', 'backend', 'mail']) assert.equal(await mode(s), 'ok', s);
  assert.match(stack.log('story-3'), /interrupted/);
}, { services: [], Stack: ExampleStack }));

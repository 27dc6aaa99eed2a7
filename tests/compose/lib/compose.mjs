// compose.mjs - one compose project of a test: brought up, scaled, hurt, looked at, and taken down with everything it made.
import fs from 'node:fs';
import path from 'node:path';
import { connect } from 'nats';
import { top } from '../../e2e/lib/contract.mjs';
import { pause, slow, until } from '../../e2e/lib/wait.mjs';
import { api, command, docker, host, labelled, noEngine, tag } from './engine.mjs';

export { api, command, docker, noEngine, pause, slow, tag, top, until };

export const SERVICES = ['health', 'breaker', 'fallback', 'guard', 'alert', 'audit', 'rollback', 'continuity'];
export const AIRGAP = ['docker-compose.yml', 'deploy/compose/airgap.yml']; // no image is pulled
const PROFILES = 'tools,demo'; // so that `down` knows every service

// `docker-compose` of 1.29, the same name as a program of v2, or the plugin of `docker`; REDOUBT_COMPOSE decides ("docker compose").
async function which() {
  if (process.env.REDOUBT_COMPOSE) return process.env.REDOUBT_COMPOSE.split(' ');
  const plugin = await command('docker', ['compose', 'version']).catch(() => ({ code: 1 }));
  return plugin.code === 0 ? ['docker', 'compose'] : ['docker-compose'];
}
let program;

export class Project {
  // `files`: of the repository, or absolute; `env`: more for the compose files; `config`: the settings' file, if another one.
  constructor(name, { files = AIRGAP, env = {}, config } = {}) {
    this.name = `${process.env.REDOUBT_TEST_PREFIX ?? `redoubt-test-${process.pid}`}-${name}`;
    this.args = ['-p', this.name, ...files.flatMap((f) => ['-f', path.resolve(top, f)])];
    this.env = { REDOUBT_TAG: tag, REDOUBT_NATS_PORT: '', REDOUBT_BUILD_NETWORK: 'host', COMPOSE_HTTP_TIMEOUT: '180', ...(config && { REDOUBT_CONFIG: config }), ...env };
    this.scales = {}; // service -> how many, as last asked for
    this.clients = [];
  }

  // Any compose command: {code, out, err}.
  async compose(args, options = {}) {
    program ??= await which();
    return command(program[0], [...program.slice(1), ...this.args, ...args], { ...options, env: { ...this.env, ...options.env } });
  }

  async ok(args, options) {
    const r = await this.compose(args, options);
    if (r.code) throw new Error(`compose ${args.join(' ')}: exit ${r.code}\n${r.out}${r.err}`);
    return r.out;
  }

  // `up -d` of all or some; waits until all that run are healthy. `args`: more for `up`, as --no-deps.
  async up(services = [], { args = [], profile, wait = true, limit_ms = 120000 } = {}) {
    const scales = Object.entries(this.scales).filter(([s]) => services.length === 0 || services.includes(s)).flatMap(([s, n]) => ['--scale', `${s}=${n}`]);
    await this.ok([...(profile ? ['--profile', profile] : []), 'up', '-d', '--no-build', ...args, ...scales, ...services], { timeout_ms: 60000 + limit_ms * slow });
    if (wait) await this.healthy(services, limit_ms);
  }

  // {service: n}: more or fewer; nothing that runs is made anew.
  async scale(counts, { wait = true } = {}) {
    Object.assign(this.scales, counts);
    await this.up(Object.keys(counts), { args: ['--no-recreate', '--no-deps'], wait });
  }

  // Waits until each of these services (default: all there are) runs in the number asked for and says that it is well.
  healthy(services = [], limit_ms = 120000) {
    let last = '';
    return until(() => `healthy containers of ${this.name}: ${last}`, async () => {
      const all = (await this.containers()).filter((c) => !c.oneOff && c.service !== 'setup' && (services.length === 0 || services.includes(c.service)));
      last = all.map((c) => `${c.service}-${c.index} ${c.status}`).join(', ');
      const enough = (services.length ? services : [...new Set([...SERVICES, ...Object.keys(this.scales)])])
        .every((s) => all.filter((c) => c.service === s).length >= (this.scales[s] ?? 1));
      return enough && all.every((c) => /\(healthy\)|^Up [^(]*$/.test(c.status) || c.status.startsWith('Exited (0)')) && all;
    }, limit_ms);
  }

  // What there is, running or not: [{id, service, index, state, status, oneOff}], by service and number.
  async containers(service) {
    const list = await labelled('containers/json', `com.docker.compose.project=${this.name}`);
    return list.map((c) => ({ id: c.Id, name: c.Names[0].slice(1), service: c.Labels['com.docker.compose.service'], index: Number(c.Labels['com.docker.compose.container-number'] ?? 0),
      oneOff: c.Labels['com.docker.compose.oneoff'] === 'True', state: c.State, status: c.Status }))
      .filter((c) => !service || (c.service === service && !c.oneOff))
      .sort((a, b) => a.service.localeCompare(b.service) || a.index - b.index);
  }

  // One container by its service and number (default: the first there is), as `docker inspect` says it.
  async inspect(service, index) {
    const all = await this.containers(service);
    const one = index === undefined ? all[0] : all.find((c) => c.index === index);
    if (!one) throw new Error(`no container of ${service}${index === undefined ? '' : ` with number ${index}`} in ${this.name}`);
    return api('GET', `/containers/${one.id}/json`);
  }

  // From outside and for good: the engine does not start it again.
  async kill(service, index, signal = 'KILL') {
    await api('POST', `/containers/${(await this.inspect(service, index)).Id}/kill?signal=${signal}`);
  }

  // As a crash: the process dies, and the restart policy has its say.
  async crash(service, index) {
    process.kill((await this.inspect(service, index)).State.Pid, 'SIGKILL');
  }

  async start(service, index) {
    await api('POST', `/containers/${(await this.inspect(service, index)).Id}/start`);
  }

  async pauseOne(service, index) {
    await api('POST', `/containers/${(await this.inspect(service, index)).Id}/pause`);
  }

  async unpauseOne(service, index) {
    await api('POST', `/containers/${(await this.inspect(service, index)).Id}/unpause`);
  }

  // In a running container: {code, out, err}.
  async exec(service, args, { index, input } = {}) {
    return command('docker', ['exec', '-i', (await this.inspect(service, index)).Id, ...args], { input });
  }

  async logs(service, index) {
    const { Id } = await this.inspect(service, index);
    const r = await command('docker', ['logs', Id]);
    return r.out + r.err;
  }

  // Both streams of every container, the last lines of each: for a failure's message.
  async tails(lines = 12) {
    const parts = [];
    for (const c of await this.containers()) {
      const r = await command('docker', ['logs', '--tail', String(lines), c.id]);
      parts.push(`--- ${c.name}: ${c.status}\n${r.out}${r.err}`.trimEnd());
    }
    return parts.join('\n');
  }

  // The operator's command in a container of its own: {code, out, err}.
  run(...args) {
    return this.compose(['run', '--rm', '--no-deps', '-T', 'cli', ...args]);
  }

  // A file of a volume, by the name that it has in the compose file.
  volumeFile(volume, file) {
    return docker('run', '--rm', '--network', 'none', '-u', '0', '--entrypoint', 'cat', '-v', `${this.name}_${volume}:/v:ro`, `redoubt/cli:${tag}`, `/v/${file}`);
  }

  // 127.0.0.1:port as which a port of a container can be reached from here.
  async published(service, port, index) {
    const bound = (await this.inspect(service, index)).NetworkSettings.Ports[`${port}/tcp`];
    if (!bound?.length) throw new Error(`${service} does not publish ${port}`);
    return `${bound[0].HostIp}:${bound[0].HostPort}`;
  }

  // A connection by the published port, as one of the users of the suite.
  async nats(user = 'operator') {
    const volume = `secret-${user === 'operator' ? 'cli' : user}`;
    const nc = await connect({ servers: await this.published('nats', 4222), user, pass: (await this.volumeFile(volume, 'nats')).split('\n')[0],
      inboxPrefix: user === 'operator' ? '_INBOX_cli' : `_INBOX_${user}`, maxReconnectAttempts: -1, reconnectTimeWait: 200, waitOnFirstConnect: true, ignoreClusterUpdates: true });
    this.clients.push(() => nc.close());
    return nc;
  }

  // redis-cli as one of the users (recovery may read everything): what it prints.
  async redisCli(user, ...args) {
    const password = (await this.volumeFile(`secret-${user}`, 'redis')).split('\n')[0];
    const r = await command('docker', ['exec', '-e', `REDISCLI_AUTH=${password}`, (await this.inspect('redis')).Id, 'redis-cli', '--user', user, ...args]);
    if (r.code) throw new Error(`redis-cli ${args.join(' ')}: ${r.out}${r.err}`);
    return r.out.trim();
  }

  // Everything with its volumes, also what compose would leave.
  async down() {
    for (const close of this.clients.splice(0)) await Promise.resolve(close()).catch(() => {});
    if (process.env.KEEP) return;
    await this.compose(['down', '-v', '-t', '1', '--remove-orphans'], { env: { COMPOSE_PROFILES: PROFILES } }).catch(() => {});
    await sweep(this.name);
  }
}

// What is left of a project, by its label.
export async function sweep(name) {
  const label = `com.docker.compose.project=${name}`;
  // The engine may still be busy with what compose has told it: it says no then, and is asked again.
  for (const limit = Date.now() + 60000; ;) {
    const [containers, networks, volumes] = [await labelled('containers/json', label), await labelled('networks', label), (await labelled('volumes', label)).Volumes ?? []];
    if (containers.length + networks.length + volumes.length === 0) return;
    if (Date.now() > limit) throw new Error(`the engine does not let go of ${[...containers, ...networks, ...volumes].map((x) => x.Names?.[0] ?? x.Name).join(' ')}`);
    for (const c of containers) await api('DELETE', `/containers/${c.Id}?force=1&v=1`, { fine: [404, 409] });
    for (const n of networks) await api('DELETE', `/networks/${n.Id}`, { fine: [403, 404, 409] });
    for (const v of volumes) await api('DELETE', `/volumes/${v.Name}?force=1`, { fine: [404, 409] });
    await pause(200);
  }
}

// Runs `body(project)` and takes everything down; a failure shows the logs' ends.
export async function withProject(name, options, body) {
  const project = new Project(name, options);
  try {
    return await body(project);
  } catch (e) {
    e.message += `\n${await project.tails().catch((x) => `(no logs: ${x.message})`)}`;
    throw e;
  } finally {
    await project.down();
  }
}

// A settings file of a test's own: the example's connection part, and `text` for the rest. Its path.
export function settingsFile(dir, text) {
  const example = fs.readFileSync(path.join(top, 'deploy/redoubt.yaml'), 'utf8');
  const connection = example.slice(0, example.indexOf('# What can fail.'));
  const file = path.join(dir, 'redoubt.yaml');
  fs.writeFileSync(file, connection + text, { mode: 0o644 });
  return file;
}

export { host };

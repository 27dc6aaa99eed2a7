// rights.mjs - a stack in which everybody has the rights of deploy/nats and deploy/redis, and no others.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { connect } from 'nats';
import { createClient } from 'redis';
import { top } from './contract.mjs';
import { Stack } from './stack.mjs';

export const ROOMS = ['health', 'breaker', 'fallback', 'guard', 'alert', 'audit', 'rollback', 'continuity'];
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

// `deploy/compose/setup` as a container runs it, with folders in the place of volumes; what it says.
export function setup(dir, more = {}) {
  fs.mkdirSync(path.join(dir, 'secrets'), { recursive: true });
  return execFileSync(path.join(top, 'deploy/compose/setup'), { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...env, SETUP_SECRETS: path.join(dir, 'secrets'), SETUP_DATA: path.join(dir, 'data'), REDOUBT_UID: String(process.getuid()), ...more } });
}

// deploy/nats as /etc/nats is, with what setup has made beside it; the path of nats.conf.
export function natsFiles(dir) {
  const [, major, minor] = execFileSync('nats-server', ['--version'], { encoding: 'utf8', env }).match(/v(\d+)\.(\d+)/).map(Number);
  const conf = path.join(dir, 'etc/nats');
  fs.cpSync(path.join(top, 'deploy/nats'), conf, { recursive: true });
  fs.mkdirSync(path.join(dir, 'run/secrets'), { recursive: true });
  if (!fs.existsSync(path.join(dir, 'run/secrets/redoubt'))) fs.symlinkSync(path.join(dir, 'secrets/nats-server'), path.join(dir, 'run/secrets/redoubt'));
  const server = path.join(conf, 'server.conf');
  let text = fs.readFileSync(server, 'utf8').replace(/^(http|\s*store_dir):.*$/gm, ''); // many servers on one host
  if (major < 2 || (major === 2 && minor < 10)) text = text.replace(/^\s*sync_interval:.*$/m, '');
  fs.writeFileSync(server, text);
  return path.join(conf, 'nats.conf');
}

export class RightsStack extends Stack {
  consumers = ['siem', 'lake'];

  prepare() {
    for (const c of this.consumers) fs.mkdirSync(path.join(this.dir, 'secrets', c), { recursive: true });
    this.said = setup(this.dir, { REDOUBT_CONSUMERS: this.consumers.join(',') });
    this.conf = natsFiles(this.dir);
  }

  natsArgs() { return ['-c', this.conf]; }
  redisArgs() { return [path.join(top, 'deploy/redis/redis.conf'), '--aclfile', path.join(this.dir, 'secrets/redis-server/users.acl')]; }

  secret(user, what = 'nats') {
    return fs.readFileSync(path.join(this.dir, 'secrets', user === 'operator' ? 'cli' : user, what), 'utf8').trim();
  }

  envOf(name) {
    const at = (what) => path.join(this.dir, 'secrets', name, what);
    if (![...ROOMS, 'cli', 'recovery'].includes(name)) return {};
    return { NATS_USER: name === 'cli' ? 'operator' : name, NATS_PASSWORD_FILE: at('nats'),
      ...(fs.existsSync(at('redis')) && { REDIS_USER: name, REDIS_PASSWORD_FILE: at('redis') }) };
  }

  writeSettings(text) {
    super.writeSettings(text);
    fs.writeFileSync(this.config, fs.readFileSync(this.config, 'utf8')
      .replace(/^(nats: \{.*) \}$/m, '$1, user: "${NATS_USER:-}", password_file: "${NATS_PASSWORD_FILE:-}" }')
      .replace(/^(redis: \{.*) \}$/m, '$1, user: "${REDIS_USER:-}", password_file: "${REDIS_PASSWORD_FILE:-}" }'));
  }

  // As one of the users; `test` is the operator. Errors that the server sends are kept in nc.refused.
  async nats(user = 'test') {
    const who = user === 'test' ? 'operator' : user;
    const nc = await connect({ servers: `127.0.0.1:${this.natsPort}`, name: who, user: who, pass: this.secret(who), inboxPrefix: `_INBOX_${who}`,
      maxReconnectAttempts: -1, reconnectTimeWait: 100 });
    nc.refused = [];
    (async () => { for await (const s of nc.status()) if (s.type === 'error') nc.refused.push(s); })().catch(() => {});
    this.clients.push(() => nc.close());
    return nc;
  }

  async redis(user = 'recovery') {
    const c = createClient({ username: user, password: this.secret(user, 'redis'), socket: { host: '127.0.0.1', port: this.redisPort, reconnectStrategy: 100 },
      disableClientInfo: true });
    c.on('error', () => {});
    await c.connect();
    this.clients.push(() => c.disconnect());
    return c;
  }

  // Lines that say that one of the suite's own was refused something.
  refusals() {
    const own = new RegExp(`Violation.*User "(${[...ROOMS, 'agent'].join('|')})"|authentication error`);
    const lines = this.log('nats').split('\n').filter((l) => own.test(l));
    for (const s of ROOMS) {
      if (!fs.existsSync(path.join(this.dir, 'log', `${s}.log`))) continue;
      lines.push(...this.log(s).split('\n').filter((l) => /NOPERM|NOAUTH|WRONGPASS|[Pp]ermissions? [Vv]iolation|ot [Aa]uthorized|[Aa]uthorization/.test(l)).map((l) => `${s}: ${l}`));
    }
    return lines;
  }
}

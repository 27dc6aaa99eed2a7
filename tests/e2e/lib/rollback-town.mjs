// rollback-town.mjs - a town that redoubt-rollback moves about in: versions with instances, a balancer, checks, all in this process. The service reaches it by a program (executor exec) and by
// HTTP (traffic webhook, checks). The town notes whatever must never happen: traffic for which there is no capacity, a stop before the traffic has gone, two of the same.
import fs from 'node:fs';
import http from 'node:http';
import { once } from 'node:events';
import path from 'node:path';
import { top } from './contract.mjs';
import { withStack } from './stack.mjs';
import { until } from './wait.mjs';

export const NAME = 'agent-1';
// The program: hands its words and its stdin over to the town, prints its answer, ends with its code.
const PROGRAM = `#!/bin/bash
# town PORT VERB [WORD...]
export LC_ALL=C
port=$1 verb=$2; shift 2
body=
[ "$verb" = view ] || IFS= read -r -d '' body
exec 3<>/dev/tcp/127.0.0.1/$port || exit 75
printf 'POST /program/%s HTTP/1.0\\r\\nX-Words: %s\\r\\nContent-Length: %d\\r\\n\\r\\n%s' "$verb" "$*" "\${#body}" "$body" >&3
code=75
while IFS= read -r line <&3; do
  line=\${line%$'\\r'}
  case "$line" in X-Code:*) code=\${line#*: } ;; '') break ;; esac
done
cat <&3
exit "$code"
`;

export class Town {
  constructor(instances = 2) {
    this.want = instances;
    this.versions = new Map(); // name -> {digest, image, spec, schema, gaps}
    this.instances = []; // {handle, version, side, running, ready, job}
    this.share = [100, 0];
    this.wrong = []; // what must never happen
    this.orders = []; // [verb, ...words]
    this.moves = []; // {share, at}
    this.sick = new Set(); // versions whose checks fail
    this.unfit = new Set(); // versions that the final suite finds something wrong with
    this.silent = new Set(); // versions whose checks give no answer
    this.never_ready = new Set();
    this.refuse = new Map(); // verb -> {code, text}
    this.dead = false; // the balancer does not answer
    this.serial = 0;
    this.migrations = [];
  }

  async open() {
    this.server = http.createServer((req, res) => {
      const parts = [];
      req.on('data', (p) => parts.push(p));
      req.on('end', () => this.handle(req, res, Buffer.concat(parts).toString()));
    });
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    this.port = this.server.address().port;
    return this;
  }

  close() {
    this.server.closeAllConnections();
    this.server.close();
  }

  // Deploys as a person would: the version takes the place of what has the traffic, and nothing else is left.
  deploy(name, more = {}) {
    this.versions.set(name, { digest: `sha256:${Buffer.from(name).toString('hex').padEnd(64, '0').slice(0, 64)}`, image: `agent:${name}`, spec: { image: `agent:${name}`, env: [`V=${name}`] }, schema: 1, gaps: [], ...more });
    const side = this.share[0] >= this.share[1] ? 0 : 1;
    this.instances = [];
    for (let k = 0; k < this.want; k++) this.add(name, side, '');
    this.share = side === 0 ? [100, 0] : [0, 100];
  }

  add(version, side, job) {
    const ready = !this.never_ready.has(version);
    this.instances.push({ handle: `i${++this.serial}`, version, side, running: true, ready, job, address: `127.0.0.1:${this.port}`, ...(ready ? {} : { why: 'it does not become ready' }) });
  }

  of(version) {
    return this.instances.filter((i) => i.version === version);
  }

  ready(side) {
    return this.instances.filter((i) => i.side === side && i.ready).length;
  }

  kill(version) {
    for (const i of this.of(version)) Object.assign(i, { running: false, ready: false, why: 'killed' });
  }

  view() {
    const names = [...new Set(this.instances.map((i) => i.version))];
    return { versions: names.map((name) => ({ name, ...this.versions.get(name) })), instances: this.instances };
  }

  act(verb, words, input) {
    const [version, side, count, job] = words;
    if (verb !== 'view') this.orders.push([verb, ...words]);
    if (this.refuse.has(verb)) return this.refuse.get(verb);
    switch (verb) {
      case 'view': return { text: JSON.stringify(this.view()) };
      case 'check': return this.versions.has(version) ? {} : { code: 1, text: `no image for ${version}` };
      case 'up': {
        this.on_up?.(version);
        if (!JSON.parse(input).image) this.wrong.push(`up of ${version} without its spec`);
        for (const i of this.of(version).filter((x) => x.side === Number(side))) Object.assign(i, { running: true, ready: !this.never_ready.has(version) });
        while (this.of(version).length < Number(count)) this.add(version, Number(side), job);
        return {};
      }
      case 'stop':
        for (const i of this.of(version)) {
          if (this.share[i.side] > 0) this.wrong.push(`${version} was stopped with ${this.share[i.side]} % of the traffic`);
          Object.assign(i, { running: false, ready: false, why: 'stopped' });
        }
        return {};
      case 'start':
        for (const i of this.of(version)) Object.assign(i, { running: true, ready: !this.never_ready.has(version), why: '' });
        return {};
      case 'remove':
        if (this.of(version).some((i) => this.share[i.side] > 0)) this.wrong.push(`${version} was removed with traffic`);
        this.instances = this.instances.filter((i) => i.version !== version);
        return {};
      case 'run':
        this.on_run?.(version);
        this.migrations.push([version, ...JSON.parse(input)]);
        return {};
      default:
        return {};
    }
  }

  put(order) {
    const share = [0, 0];
    for (const s of order.shares) share[s.side] = s.percent;
    for (const side of [0, 1]) {
      const needs = Math.ceil((this.want * share[side]) / 100);
      if (share[side] > this.share[side] && this.ready(side) < Math.min(needs, this.want))
        this.wrong.push(`side ${side} was given ${share[side]} % with ${this.ready(side)} of ${needs} instances`);
    }
    if (this.share.join() !== share.join()) this.moves.push({ share, at: Date.now() });
    this.share = share;
  }

  handle(req, res, body) {
    const [, kind, what] = req.url.split('/');
    if (kind === 'program') {
      const r = this.act(what, (req.headers['x-words'] ?? '').split(' '), body);
      res.shouldKeepAlive = false;
      return res.writeHead(200, { 'X-Code': String(r.code ?? 0), connection: 'close' }).end(r.text ?? '');
    }
    if (kind === 'traffic') {
      if (this.dead) return res.writeHead(503).end('not now');
      if (req.method === 'PUT') this.put(JSON.parse(body));
      return res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ shares: [0, 1].map((side) => ({ side, percent: this.share[side], sessions: 0 })) }));
    }
    if (kind === 'final') return res.writeHead(this.unfit.has(what) ? 500 : 200, { 'content-type': 'application/json' }).end('{}');
    if (kind === 'health') {
      if (this.silent.has(what)) return req.socket.destroy();
      if (this.sick.has(what)) return res.writeHead(500).end('sick');
      return res.writeHead(200, { 'content-type': 'application/json' }).end('{"verdict":"block"}');
    }
    return res.writeHead(404).end();
  }
}

// Settings of a deployment in a town; `more` are lines of it, indented by six.
export function deployment(town, dir, more = '', { step = '400ms', capacity_wait = '6s' } = {}) {
  const program = path.join(dir, 'town');
  if (!fs.existsSync(program)) fs.writeFileSync(program, PROGRAM, { mode: 0o755 });
  const run = (verb, ...words) => `["${program}", "${town.port}", "${verb}"${words.map((w) => `, "${w}"`).join('')}]`;
  const whole = ['{{version}}', '{{side}}', '{{count}}', '{{job}}'];
  return `rollback:
  exec_allowed: ["${program}"]
  observe: 200ms
  lease_ttl: 600ms
  member_ttl: 600ms
  deployments:
    - name: ${NAME}
      executor: exec
      exec:
        view: ${run('view')}
        check: ${run('check', ...whole)}
        up: ${run('up', ...whole)}
        stop: ${run('stop', ...whole)}
        start: ${run('start', ...whole)}
        settle: ${run('settle', ...whole)}
        remove: ${run('remove', ...whole)}
        keep: ${run('keep', '{{version}}', '{{keep}}')}
        run: ${run('run', ...whole)}
      traffic: { type: webhook, url: "http://127.0.0.1:${town.port}/traffic" }
      checks:
        - { name: known-answer, type: known, class: security, url: "http://127.0.0.1:${town.port}/health/{{version}}", body: '{"event":"attack"}', expect_json: [{ path: $.verdict, equals: block }], timeout: 2s }
        - { name: final, type: http, class: errors, limit: 0, suite: true, url: "http://127.0.0.1:${town.port}/final/{{version}}", timeout: 2s }
      step: ${step}
      check_every: 100ms
      capacity_wait: ${capacity_wait}
      drain: 200ms
      watch: 500ms
      settle: 300ms
${more}`;
}

// A town with v1 and then v2 deployed, both verified; v2 is current. body(stack, town, cli, nc).
export async function withTown(name, body, { more = '', replicas = 1, services = ['audit', 'alert'], versions = ['v1', 'v2'], step, capacity_wait, prepare = () => {}, body_of = () => ({}) } = {}) {
  const town = await new Town().open();
  try {
    await withStack(name, (stack) => {
      prepare(stack.dir);
      return `alert: { channels: [{ name: record, type: file, path: "${path.join(stack.dir, 'alerts.jsonl')}" }], routes: [{ name: all, channels: [record] }] }
${deployment(town, stack.dir, typeof more === 'function' ? more(stack.dir) : more, { step, capacity_wait })}`;
    }, async (stack) => {
      // Patient, as machines are shared.
      const cli = async (...args) => stack.cli(['rollback', ...args, ...(args.length ? ['--timeout', '20s'] : [])]);
      stack.define('rollback', path.join(process.env.REDOUBT_BIN ?? path.join(top, 'build/bin'), 'redoubt-rollback'), ['-c', stack.config]);
      for (let i = 2; i <= replicas; i++) stack.define(`rollback${i}`, stack.procs.get('rollback').command, ['-c', stack.config]);
      for (let i = 0; i < versions.length; i++) {
        town.deploy(versions[i], body_of(versions[i]));
        if (i === 0) for (let k = 1; k <= replicas; k++) stack.run(k === 1 ? 'rollback' : `rollback${k}`);
        await until(() => `${versions[i]} to be verified`, async () => {
          const r = await cli('versions', NAME, '--json');
          return r.code === 0 && JSON.parse(r.out).versions.some((v) => v.name === versions[i] && v.current && v.state === 'VERIFIED');
        }, 40000);
      }
      await body(stack, town, cli);
    }, { services });
  } finally {
    town.close();
  }
}

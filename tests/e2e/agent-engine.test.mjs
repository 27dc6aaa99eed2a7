// agent-engine.test.mjs - the filter before the Docker Engine's socket (deploy/compose/agent-engine.cfg): what redoubt-rollback asks passes, and nothing else.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { top } from './lib/contract.mjs';
import { until } from './lib/wait.mjs';

const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const skip = spawnSync('haproxy', ['-v'], { env }).error ? 'not installed: haproxy' : undefined;
const ID = '4f0c41a2b3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e';

const PASSES = `GET /_ping
GET /v1.41/containers/json?all=1
GET /v1.41/containers/${ID}/json
GET /v1.41/containers/${ID}/changes
GET /v1.41/containers/${ID}/logs?stdout=1&stderr=1&tail=40
HEAD /v1.41/containers/${ID}/archive?path=%2Fetc%2Fagent.conf
GET /v1.41/images/sha256%3A${ID}/json
GET /v1.41/images/sha256:${ID}/json
GET /v1.41/images/redoubt/keep:demo-agent.v1/json
GET /v1.41/networks/town_agent
GET /v1.41/volumes/town_learning
GET /v1.41/info
POST /v1.41/containers/create?name=town-demo-agent-rb-12-1
POST /v1.41/containers/${ID}/start
POST /v1.41/containers/${ID}/stop?t=10
POST /v1.41/containers/${ID}/rename?name=town_demo-agent_1
POST /v1.41/containers/${ID}/update
POST /v1.41/containers/${ID}/wait
POST /v1.41/networks/town_agent/connect
POST /v1.41/images/sha256%3A${ID}/tag?repo=redoubt%2Fkeep&tag=demo-agent.v1
DELETE /v1.41/images/redoubt/keep:demo-agent.v1?noprune=1
DELETE /v1.41/containers/${ID}?force=0&v=0`.split('\n');
const REFUSED = `POST /v1.41/containers/${ID}/exec
POST /v1.41/exec/${ID}/start
GET /v1.41/containers/${ID}/archive?path=/etc/shadow
PUT /v1.41/containers/${ID}/archive?path=/
GET /v1.41/containers/${ID}/export
POST /v1.41/containers/${ID}/attach?stream=1
GET /v1.41/containers/${ID}/attach/ws
POST /v1.41/containers/${ID}/kill
POST /v1.41/containers/prune
POST /v1.41/build
POST /v1.41/images/create?fromImage=evil
POST /v1.41/images/load
GET /v1.41/images/x/get
POST /v1.41/commit
DELETE /v1.41/containers/${ID}?v=1
DELETE /v1.41/containers/${ID}?force=1&v=true
DELETE /v1.41/containers/${ID}?v=0&v=1
DELETE /v1.41/containers/${ID}?%76=1
DELETE /v1.41/containers/${ID}?force=0&v=T
DELETE /v1.41/containers/${ID}
GET /v1.41/images/%2e%2e/secrets/json
GET /v1.41/images/x%2F..%2Fy/json
DELETE /v1.41/volumes/town_learning
DELETE /v1.41/networks/town_agent
POST /v1.41/networks/create
POST /v1.41/volumes/create
POST /v1.41/volumes/prune
GET /v1.41/secrets
GET /v1.41/events
POST /v1.41/swarm/init
POST /v1.41/session
GET /v1.41/volumes/../secrets
GET /v1.41/networks/x/../../containers/${ID}/export
GET /v1.41/networks/x%2F..%2F..%2Fsecrets
GET /v1.41/images/../containers/${ID}/json
POST /v1.41/images/../containers/${ID}/exec/../tag
POST /v1.41/images/x/push
DELETE /v1.41/images/../volumes/town_learning
GET /containers/json/../../secrets
TRACE /_ping
OPTIONS /v1.41/info`.split('\n');

test('what a rollback asks passes, and nothing else', { skip, timeout: 60000 }, async () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'redoubt-filter-'));
  const engine = path.join(dir, 'engine.sock'), front = path.join(dir, 'front.sock');
  const seen = [];
  const server = http.createServer((req, res) => { seen.push(`${req.method} ${req.url}`); res.end('{}'); }).listen(engine);
  await once(server, 'listening');
  const text = fs.readFileSync(path.join(top, 'deploy/compose/agent-engine.cfg'), 'utf8');
  const own = text.replace('unix@/run/engine/docker.sock', `unix@${front}`).replace('unix@/var/run/docker.sock', `unix@${engine}`);
  assert.ok(own.includes(front) && own.includes(engine), 'both sockets are named as this test knows them');
  fs.writeFileSync(path.join(dir, 'haproxy.cfg'), own);
  const log = fs.openSync(path.join(dir, 'log'), 'a');
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', 'haproxy', '-db', '-f', path.join(dir, 'haproxy.cfg')], { env, stdio: ['ignore', log, log] });
  const exited = once(child, 'exit');
  const ask = (line) => new Promise((done, failed) => {
    const [method, url] = line.split(' ');
    const r = http.request({ socketPath: front, method, path: url, agent: false }, (a) => { a.resume(); a.on('end', () => done(a.statusCode)); });
    r.on('error', failed);
    r.end();
  });
  try {
    await until(() => `HAProxy to listen:\n${fs.readFileSync(path.join(dir, 'log'), 'utf8')}`, () => ask('GET /_ping').then((s) => s === 200, () => false));
    seen.length = 0;
    for (const line of PASSES) assert.equal(await ask(line), 200, `${line} is let through`);
    assert.deepEqual(seen, PASSES, 'as they were asked');
    for (const line of REFUSED) {
      const status = await ask(line);
      assert.ok(status >= 400 && status < 500, `${line} is refused: ${status}`);
    }
    assert.deepEqual(seen, PASSES, 'what is refused never reaches the Engine');
  } finally {
    child.kill('SIGKILL');
    await exited;
    server.closeAllConnections();
    server.close();
    fs.closeSync(log);
    fs.rmSync(dir, { recursive: true, force: true });
  }
});

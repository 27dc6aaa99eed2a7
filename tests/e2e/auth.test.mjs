// auth.test.mjs - every part under its own user: the suite works with exactly those rights, and each refuses what it must.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { connect } from 'nats';
import { ceHeaders, encode, top } from './lib/contract.mjs';
import { natsFiles, RightsStack, ROOMS, setup } from './lib/rights.mjs';
import { withStack } from './lib/stack.mjs';
import { runStory } from './lib/story.mjs';
import { until } from './lib/wait.mjs';

test('a whole LLM outage with every service under its own user', { timeout: 300000 }, async () => {
  await runStory('auth', { options: { Stack: RightsStack, services: ROOMS }, check: async (stack) => {
    const status = await stack.cli(['status']);
    for (const room of ROOMS) assert.match(status.out, new RegExp(`\\b${room}\\b`), `status sees ${room}: ${status.out}${status.err}`);
    const r = await stack.cli(['continuity', 'status']);
    assert.equal(r.code === 0 || /UNKNOWN|MET/.test(r.out), true, `continuity status: ${r.out}${r.err}`);
    const frozen = await stack.cli(['freeze', 'mcp-security-agent', '--by', 'test', '--reason', 'to see that it may']);
    assert.equal(frozen.code, 0, `freeze: ${frozen.out}${frozen.err}`);
    assert.deepEqual(stack.refusals(), [], 'nobody was refused anything');
  } });
});

// ---- what must be refused ----

const EVENTS = ['health.x', 'breaker.x', 'directive.x', 'delivery.x', 'problem.x', 'silence.x', 'pulse.alert', 'checkpoint.x', 'rollback.x', 'version.x.1', 'share.x',
  'incident.x', 'continuity.time', 'queue.x.5', 'parcel.a.b.c', 'fence.x', 'fenced.x', 'observation.x', 'traffic.x', 'advice.x', 'monitor.x', 'ack.x', 'heartbeat.x',
  'decision.x', 'report.x', 'action.x', 'alert', 'cmd.fallback.unfreeze', 'cmd.breaker.open', 'cmd.rollback.start', 'cmd.fallback.leader.unfreeze', 'dead.REDOUBT_AUDIT']
  .map((s) => `redoubt.v1.${s}`);
// Of these each may say its own; of everything else in EVENTS nothing.
const SAYS = {
  health: ['health.x', 'observation.x', 'report.x', 'alert'],
  breaker: ['breaker.x', 'traffic.x', 'advice.x', 'alert'],
  fallback: ['directive.x', 'fence.x', 'monitor.x', 'alert', 'cmd.rollback.start', 'cmd.fallback.leader.unfreeze'],
  guard: ['queue.x.5', 'fenced.x', 'alert'],
  alert: ['delivery.x', 'problem.x', 'silence.x', 'parcel.a.b.c', 'pulse.alert', 'alert'],
  audit: ['checkpoint.x', 'alert', 'dead.REDOUBT_AUDIT'],
  rollback: ['rollback.x', 'version.x.1', 'share.x', 'alert'],
  continuity: ['incident.x', 'continuity.time', 'alert'],
  agent: ['report.x', 'heartbeat.x', 'decision.x', 'ack.x', 'monitor.x', 'action.x'],
  operator: ['report.x', 'cmd.fallback.unfreeze', 'cmd.breaker.open', 'cmd.rollback.start'],
  recovery: [],
  siem: [],
};
// Calls of JetStream and answers that nobody but those named may make.
const CALLS = {
  '$JS.API.STREAM.DELETE.REDOUBT_AUDIT': ['recovery'], '$JS.API.STREAM.PURGE.REDOUBT_AUDIT': [], '$JS.API.STREAM.MSG.DELETE.REDOUBT_AUDIT': [],
  '$JS.API.STREAM.PURGE.REDOUBT_STATE': ['continuity'], '$JS.API.STREAM.MSG.DELETE.REDOUBT_ACTIONS': ['guard'], '$JS.API.STREAM.CREATE.SPY': [],
  '$JS.API.STREAM.RESTORE.REDOUBT_STATE': ['recovery'], '$JS.API.STREAM.SNAPSHOT.REDOUBT_STATE': ['continuity', 'recovery'],
  '$JS.API.CONSUMER.DELETE.REDOUBT_ALERTS.redoubt-alert': [], '$JS.API.CONSUMER.DURABLE.CREATE.REDOUBT_ALERTS.redoubt-alert': ['alert'],
  '$JS.API.CONSUMER.DURABLE.CREATE.REDOUBT_AUDIT.redoubt-audit': ['audit'], '$JS.ACK.REDOUBT_ALERTS.redoubt-alert.1.1.1.1.0': ['alert'],
  '$JS.ACK.REDOUBT_AUDIT.redoubt-audit.1.1.1.1.0': ['audit'], '$SYS.REQ.SERVER.PING': [],
  '_INBOX.x': [], '_INBOX_siem.x': [], '_INBOX_breaker.x': ['breaker'], '_INBOX_recovery.x': ['recovery'],
};
const HEARS = { // subject -> who may; inboxes are whose they are
  '>': [], 'redoubt.>': [], '$JS.>': [], '_INBOX.>': ['siem'], '$SYS.>': [], 'redoubt.v1.>': ['operator', 'recovery', 'siem'],
  'redoubt.v1.action.*': ['guard', 'operator', 'recovery', 'siem'], 'redoubt.v1.cmd.fallback.*': ['fallback', 'operator', 'recovery', 'siem'],
  '$JS.API.>': [], '_INBOX_cli.>': ['operator', 'recovery'], '_INBOX_guard.>': ['guard'], '_INBOX_fallback.>': ['fallback'], '_INBOX_agent.>': ['agent'],
};

const USERS = Object.keys(SAYS);
const idle = () => 'targets: []\n';

test('nobody says, asks or hears what is not theirs', { timeout: 120000 }, async () => {
  await withStack('deny', idle, async (stack) => {
    const table = [];
    for (const user of USERS) {
      const nc = await stack.nats(user);
      const tried = { publish: new Map(), subscribe: new Map() };
      for (const s of EVENTS) tried.publish.set(s, SAYS[user].some((x) => s === `redoubt.v1.${x}`));
      for (const [s, who] of Object.entries(CALLS)) tried.publish.set(s, who.includes(user));
      for (const room of ROOMS) tried.publish.set(`redoubt.v1.audit.${room}`, user === room);
      for (const [s, who] of Object.entries(HEARS)) tried.subscribe.set(s, who.includes(user));
      for (const [s, may] of tried.publish) if (!may) nc.publish(s, '\xff');
      for (const [s] of tried.subscribe) nc.subscribe(s, { callback: () => {} });
      const refused = (kind, s) => nc.refused.some((r) => r.permissionContext?.operation === kind && r.permissionContext.subject === s);
      const wrong = () => [...tried.publish].filter(([s, may]) => !may && !refused('publish', s)).map(([s]) => `publish ${s}`)
        .concat([...tried.subscribe].filter(([s, may]) => may === refused('subscription', s)).map(([s]) => `subscribe ${s}`));
      await nc.flush();
      await until(() => `${user} to be refused: ${wrong().join(', ')}`, () => wrong().length === 0, 5000);
      table.push(`| ${user} | ${[...tried.publish.values()].filter((m) => !m).length} | ${[...tried.subscribe.values()].filter((m) => !m).length} |`);
      await nc.close();
    }
    console.log(['| user | publications refused | subscriptions refused |', ...table].join('\n'));
    // Without a name, with another's password, with a name that nobody has.
    for (const who of [{}, { user: 'health', pass: stack.secret('breaker') }, { user: 'nobody', pass: 'x' }, { user: 'siem', pass: '' }])
      await assert.rejects(connect({ servers: `127.0.0.1:${stack.natsPort}`, ...who, maxReconnectAttempts: 0 }), /authorization|authentication/i, JSON.stringify(who));
  }, { Stack: RightsStack, services: [] });
});

// JetStream sends what it is asked for to any subject that the asker names. It must count for nothing there.
test('what JetStream sends on for somebody else counts for nothing', { timeout: 120000 }, async () => {
  await withStack('sent-on', idle, async (stack) => {
    const ops = await stack.nats();
    const jsm = await ops.jetstreamManager();
    await until('the streams', () => jsm.streams.info('REDOUBT_DEAD').then(() => true, () => false));
    const heard = [];
    ops.subscribe('redoubt.v1.>', { callback: (_e, m) => heard.push(m.subject) });
    const health = await stack.nats('breaker'); // whoever may say it; what counts is that it is on the stream
    health.publish('redoubt.v1.breaker.some.target', encode('BreakerChanged', { target: 'some.target', state: 'BREAKER_STATE_OPEN', epoch: 7, changed_unix_ms: Date.now() }),
      { headers: ceHeaders('BreakerChanged', 'breaker/some.target/7', 'breaker') });
    await until('it on STATE', () => jsm.direct.getMessage('REDOUBT_STATE', { last_by_subj: 'redoubt.v1.breaker.some.target' }).then(() => true, () => false));
    const records = (await jsm.streams.info('REDOUBT_AUDIT')).state.messages;

    // A consumer: in its account the subject is nobody's.
    const siem = await stack.nats('siem');
    const query = JSON.stringify({ seq: 1, next_by_subj: 'redoubt.v1.breaker.>' });
    heard.length = 0;
    for (const to of ['redoubt.v1.audit.evil', 'redoubt.v1.cmd.breaker.open', 'redoubt.v1.alert']) siem.publish('$JS.API.DIRECT.GET.REDOUBT_STATE', query, { reply: to });
    // What it asks for itself comes: so those before it were dealt with, too.
    const m = await siem.request('$JS.API.DIRECT.GET.REDOUBT_STATE', query);
    assert.equal(m.headers.get('Nats-Subject'), 'redoubt.v1.breaker.some.target');
    await ops.flush();
    assert.deepEqual(heard.filter((s) => !/\.(continuity|checkpoint|health|pulse)\./.test(s)), [], 'nothing of it was heard outside');

    // An agent: it may have the present replayed. A command that comes that way is dropped, and that is said.
    const agent = await stack.nats('agent');
    for (const [room, verb] of [['breaker', 'open'], ['fallback', 'freeze'], ['health', 'maintain'], ['guard', 'queue_drop']]) {
      const r = await agent.request('$JS.API.CONSUMER.CREATE.REDOUBT_STATE', JSON.stringify({ stream_name: 'REDOUBT_STATE', config: { deliver_subject: `redoubt.v1.cmd.${room}.${verb}`,
        deliver_group: room, deliver_policy: 'all', ack_policy: 'none', inactive_threshold: 5e9, mem_storage: true, num_replicas: 1 } }));
      assert.ok(!r.json().error, r.string());
    }
    for (const room of ['breaker', 'fallback', 'health', 'guard'])
      await until(`${room} to drop what was sent on`, () => /sent on to redoubt\.v1\./.test(stack.log(room)));
    assert.equal((await jsm.streams.info('REDOUBT_AUDIT')).state.messages, records, 'and nothing is on record that nobody has said');

    // A copy that JetStream itself has put into a stream: refused by who reads it.
    agent.publish('$JS.API.DIRECT.GET.REDOUBT_STATE.redoubt.v1.directive.x', '', { reply: 'redoubt.v1.audit.agent' });
    ops.publish('$JS.API.DIRECT.GET.REDOUBT_STATE.redoubt.v1.breaker.some.target', '', { reply: 'redoubt.v1.audit.evil' });
    await until('the audit service to refuse a copy', () => /copy of a stream's message/.test(stack.log('audit')));
    assert.ok(!fs.readFileSync(path.join(stack.dir, 'log/audit.log'), 'utf8').includes('bad input'), 'it is no bad record: it is none');
  }, { Stack: RightsStack, services: ['breaker', 'fallback', 'health', 'guard', 'audit'] });
});

test('Redis: nobody touches what is not theirs', { timeout: 120000 }, async () => {
  const OWN = { health: 'redoubt:{h:x}:doc', breaker: 'redoubt:{b:x}:doc', fallback: 'redoubt:{a:x}:doc', guard: 'redoubt:{a:x}:k:1', alert: 'redoubt:{al:x}', rollback: 'redoubt:{rb:x}:doc' };
  const ALSO = { guard: [OWN.fallback] }; // whose script reads the epoch
  const LEASE = { fallback: 'redoubt:{lease:fallback-3}', guard: 'redoubt:{lease:guard-3}', rollback: 'redoubt:{lease:rollback-3}', alert: 'redoubt:{lease:alert}', continuity: 'redoubt:{lease:continuity}' };
  await withStack('acl', idle, async (stack) => {
    const no = async (c, ...args) => assert.rejects(c.sendCommand(args), /NOPERM|DEBUG command not allowed/, `${c.who}: ${args.join(' ')}`);
    for (const user of [...Object.keys(OWN), 'continuity']) {
      const c = await stack.redis(user);
      c.who = user;
      for (const key of [...Object.values(OWN), ...Object.values(LEASE), 'other']) {
        const may = key === OWN[user] || key === LEASE[user] || ALSO[user]?.includes(key);
        const script = ['EVAL', "return redis.call('GET', KEYS[1])", '1', key];
        if (may) await c.sendCommand(script);
        else await no(c, ...script);
      }
      for (const args of [['FLUSHALL'], ['FLUSHDB'], ['KEYS', '*'], ['CONFIG', 'GET', '*'], ['ACL', 'LIST'], ['SHUTDOWN', 'NOSAVE'], ['DEBUG', 'SLEEP', '0'], ['MONITOR'], ['REPLICAOF', 'NO', 'ONE'],
        ['CLIENT', 'KILL', 'TYPE', 'normal'], ['SCRIPT', 'FLUSH'], ['FUNCTION', 'FLUSH'], ['SUBSCRIBE', 'x'], ['PUBLISH', 'x', 'y'], ['RANDOMKEY'], ['SWAPDB', '0', '1'], ['SAVE'], ['BGREWRITEAOF'],
        ...(user === 'continuity' ? [['SET', 'redoubt:{h:x}:doc', '1'], ['DEL', 'redoubt:{h:x}:doc']] : [['SCAN', '0'], ['DUMP', OWN[user]]])]) await no(c, ...args);
    }
    const { createClient } = await import('redis');
    for (const who of [{}, { username: 'health', password: stack.secret('breaker', 'redis') }, { username: 'default', password: '' }]) {
      const c = createClient({ ...who, socket: { host: '127.0.0.1', port: stack.redisPort, reconnectStrategy: false }, disableClientInfo: true });
      c.on('error', () => {});
      await assert.rejects(c.connect().then(() => c.ping()), /NOAUTH|WRONGPASS/, JSON.stringify(Object.keys(who)));
      await c.disconnect().catch(() => {});
    }
    assert.ok(!fs.readFileSync(path.join(stack.dir, 'secrets/redis-server/users.acl'), 'utf8').includes(stack.secret('health', 'redis')), 'Redis has hashes only');
  }, { Stack: RightsStack, services: [] });
});

// The table of Redis' users against the sources: a command that a new script calls is missed here, not in a user's outage.
test('Redis: every command that a service uses is in its rights, and no other', () => {
  const rights = Object.fromEntries(fs.readFileSync(path.join(top, 'deploy/redis/users.acl'), 'utf8').split('\n').filter((l) => l.startsWith('user '))
    .map((l) => [l.split(/\s+/)[1], new Set([...l.matchAll(/ \+(\S+)/g)].map((m) => m[1]))]));
  const used = (files) => {
    const found = new Set();
    for (const f of files) {
      const text = fs.readFileSync(f, 'utf8');
      for (const m of text.matchAll(/redis\.p?call\('([A-Z]+)'/g)) found.add(m[1].toLowerCase());
      for (const m of text.matchAll(/(?:store_cmd|command)\([^;{]*?(?:\(const char \*(?:const)? ?\[\]\)|argv\[\] = )\{"([A-Z]+)"/g)) found.add(m[1].toLowerCase());
      for (const m of text.matchAll(/argv\[\] = \{"([A-Z]+)"|greet\([^;]*?\{"([A-Z]+)"/g)) found.add((m[1] ?? m[2]).toLowerCase());
    }
    return found;
  };
  const room = (r) => fs.readdirSync(path.join(top, 'services', r)).filter((f) => f.endsWith('.c')).map((f) => path.join(top, 'services', r, f));
  const common = (...names) => names.map((n) => path.join(top, 'services/common', `${n}.c`));
  const base = ['ping', 'role', 'select', 'eval', 'evalsha', 'script|load', 'time'];
  const PARTS = { health: ['store_doc', 'members'], breaker: ['store_doc'], fallback: ['store_doc', 'members', 'lease'], guard: ['members', 'lease'], alert: ['lease'], rollback: ['store_doc', 'members', 'lease'], continuity: ['lease'] };
  for (const [user, parts] of Object.entries(PARTS)) {
    const files = [...room(user), ...common(...parts)];
    const needs = new Set([...used(files), ...base]);
    for (const x of ['restore', 'auth', 'script', 'get_', 'post']) needs.delete(x); // recovery's, the greeting's, HTTP's
    assert.deepEqual([...rights[user]].sort(), [...needs].sort(), `rights of ${user}`);
  }
});

// ---- setup ----

test('setup: makes once, changes nothing twice, says what is wrong', () => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'redoubt-setup-'));
  try {
    const at = (...p) => path.join(dir, ...p);
    const all = () => execFileSync('sh', ['-c', 'find secrets -type f -printf "%p %m\\n" -exec sha256sum {} +'], { cwd: dir, encoding: 'utf8' }).split('\n').sort().join('\n');
    for (const d of ['data/health', 'data/nats', 'secrets/siem']) fs.mkdirSync(at(d), { recursive: true });
    assert.match(setup(dir, { REDOUBT_CONSUMERS: 'siem' }), /^setup: \d+ passwords made, 0 renewed; consumers: siem\n$/);
    const first = all();
    assert.match(setup(dir, { REDOUBT_CONSUMERS: 'siem' }), /^setup: 0 passwords made, 0 renewed/);
    assert.equal(all(), first, 'a second run changes nothing');
    for (const room of ROOMS) {
      assert.match(fs.readFileSync(at('secrets', room, 'nats'), 'utf8'), /^[0-9a-f]{64}\n$/);
      assert.equal(fs.statSync(at('secrets', room, 'nats')).mode & 0o777, 0o400);
    }
    assert.equal(fs.statSync(at('data/health')).mode & 0o777, 0o700);
    const words = execFileSync('sh', ['-c', 'cat secrets/*/nats secrets/*/redis'], { cwd: dir, encoding: 'utf8' }).trim().split('\n');
    assert.equal(new Set(words).size, words.length, 'no password is used twice');

    // One of them anew, and nothing else.
    const was = fs.readFileSync(at('secrets/health/nats'), 'utf8'), other = fs.readFileSync(at('secrets/guard/nats'), 'utf8');
    assert.match(setup(dir, { REDOUBT_CONSUMERS: 'siem', REDOUBT_ROTATE: 'health' }), /0 passwords made, 2 renewed/);
    assert.notEqual(fs.readFileSync(at('secrets/health/nats'), 'utf8'), was);
    assert.equal(fs.readFileSync(at('secrets/guard/nats'), 'utf8'), other);
    assert.ok(fs.readFileSync(at('secrets/nats-server/passwords.conf'), 'utf8').includes(fs.readFileSync(at('secrets/health/nats'), 'utf8').trim()));

    // Killed at the worst moment: half of a file beside its place, which is no file of anybody.
    fs.writeFileSync(at('secrets/health/nats.new'), 'half');
    setup(dir, { REDOUBT_CONSUMERS: 'siem' });
    const said = (more) => {
      try { setup(dir, more); } catch (e) { return e.stderr; }
      return 'it took it';
    };
    const before = all();
    for (const [more, line] of [
      [{ REDOUBT_CONSUMERS: 'Siem' }, /^setup: REDOUBT_CONSUMERS: "Siem" is not a name: .*\n$/],
      [{ REDOUBT_CONSUMERS: 'a;b' }, /^setup: .*"a;b" is not a name.*\n$/],
      [{ REDOUBT_CONSUMERS: '../x' }, /^setup: .*is not a name.*\n$/],
      [{ REDOUBT_CONSUMERS: 'health' }, /^setup: .*"health" is a name of the suite's own\n$/],
      [{ REDOUBT_CONSUMERS: 'siem,siem' }, /^setup: .*"siem" is named twice\n$/],
      [{ REDOUBT_CONSUMERS: 'x'.repeat(33) }, /^setup: .*longer than 32.*\n$/],
      [{ REDOUBT_CONSUMERS: 'lake' }, /^setup: REDOUBT_CONSUMERS: lake has no volume: add "secret-lake:.*\n$/],
      [{ REDOUBT_ROTATE: 'nobody' }, /^setup: REDOUBT_ROTATE: nobody is called "nobody"\n$/],
      [{ REDOUBT_NATS_NODES: 'a b"' }, /^setup: REDOUBT_NATS_NODES: .* is not a host name\n$/],
    ]) assert.match(said(more), line, JSON.stringify(more));
    assert.equal(all(), before, 'and wrong words change nothing');

    // What it writes is what the server reads, alone and as one of three.
    setup(dir, { REDOUBT_CONSUMERS: 'siem', REDOUBT_NATS_NODES: 'nats-1,nats-2,nats-3' });
    const conf = natsFiles(dir);
    fs.appendFileSync(at('etc/nats/server.conf'), `jetstream { store_dir: ${at('js')} }\n`);
    const check = (file) => execFileSync('sh', ['-c', 'exec nats-server -t -c "$0" 2>&1', file], { encoding: 'utf8', env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` } });
    assert.match(check(conf), /is valid/);
    assert.match(check(at('etc/nats/cluster.conf')), /is valid/);
  } finally {
    fs.rmSync(dir, { recursive: true, force: true });
  }
});

// `redoubt state` with the user that is for it, and with no other.
test('recovery saves and restores the streams and the keys; the operator may not', { timeout: 240000 }, async () => {
  await withStack('recovery', idle, async (stack) => {
    const nc = await stack.nats('breaker');
    await until('the streams', () => nc.request('$JS.API.STREAM.INFO.REDOUBT_DEAD').then((m) => !m.json().error, () => false));
    await nc.jetstream().publish('redoubt.v1.breaker.some.target', encode('BreakerChanged', { target: 'some.target', state: 'BREAKER_STATE_OPEN', epoch: 7, changed_unix_ms: Date.now() }),
      { headers: ceHeaders('BreakerChanged', 'breaker/some.target/7', 'breaker') });
    const redis = await stack.redis('breaker');
    await redis.sendCommand(['HSET', 'redoubt:{b:some.target}:doc', 'rev', '7']);
    for (const s of ['audit', 'breaker']) await stack.kill(s, 'SIGTERM');
    const as = async (user, args) => {
      const own = stack.envOf;
      stack.envOf = (name) => own.call(stack, name === 'cli' ? user : name);
      try { return await stack.cli(['state', ...args]); } finally { stack.envOf = own; }
    };
    const saved = path.join(stack.dir, 'saved');
    const no = await as('cli', ['save', path.join(stack.dir, 'not'), '--timeout', '2s']);
    assert.notEqual(no.code, 0, 'the operator may not take the streams out');
    const r = await as('recovery', ['save', saved]);
    assert.equal(r.code, 0, `save: ${r.out}${r.err}`);
    // Empty servers, as on a new site.
    for (const s of ['nats', 'redis']) {
      await stack.kill(s);
      fs.rmSync(path.join(stack.dir, s), { recursive: true });
      fs.mkdirSync(path.join(stack.dir, s));
      stack.run(s);
    }
    await stack.ready();
    const back = await as('recovery', ['restore', saved]);
    assert.equal(back.code, 0, `restore: ${back.out}${back.err}`);
    const ops = await stack.nats();
    const jsm = await ops.jetstreamManager();
    assert.ok(await jsm.direct.getMessage('REDOUBT_STATE', { last_by_subj: 'redoubt.v1.breaker.some.target' }));
    assert.equal(await (await stack.redis('breaker')).sendCommand(['HGET', 'redoubt:{b:some.target}:doc', 'rev']), '7');
    assert.deepEqual(stack.log('nats').split('\n').filter((l) => /Violation.*User "recovery"/.test(l)), []);
  }, { Stack: RightsStack, services: ['audit', 'breaker'] });
});

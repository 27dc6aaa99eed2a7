// alert-channels.test.mjs - channels of the real alert service against receivers that others wrote: mail with TLS and login, syslog, NATS, programs, files.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import { describe, test } from 'node:test';
import { SMTPServer } from 'smtp-server';
import { ceHeaders, decode, encode } from './lib/contract.mjs';
import { withStack } from './lib/stack.mjs';
import { until } from './lib/wait.mjs';

// Two authorities that know nothing of each other, each its own server.
function certificate(dir, name) {
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=test', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', path.join(dir, `${name}.key`), '-out', path.join(dir, `${name}.pem`)], { stdio: 'ignore' });
  return { key: fs.readFileSync(path.join(dir, `${name}.key`)), cert: fs.readFileSync(path.join(dir, `${name}.pem`)) };
}

// A mail server: `secure` = TLS from the start. It takes ann and bob, refuses gone@, and wants the login eve:secret if `login`.
async function mailServer(options) {
  const mails = [];
  const server = new SMTPServer({
    authOptional: !options.login,
    disabledCommands: options.login ? [] : ['AUTH'],
    ...options,
    onAuth: (auth, _session, done) => (auth.username === 'eve' && auth.password === 'secret' ? done(null, { user: 'eve' }) : done(new Error('no such login'))),
    onRcptTo: ({ address }, _session, done) => (address.startsWith('gone') ? done(Object.assign(new Error('no such user'), { responseCode: 550 })) : done()),
    onData: (stream, session, done) => {
      let text = '';
      stream.on('data', (c) => { text += c; });
      stream.on('end', () => {
        mails.push({ text, to: session.envelope.rcptTo.map((r) => r.address), secure: session.secure, user: session.user });
        done();
      });
    },
  });
  server.on('error', () => {});
  server.listen(0, '127.0.0.1');
  await once(server.server, 'listening');
  return { server, mails, port: server.server.address().port, close: () => new Promise((done) => server.close(done)) };
}

const alertYaml = (channels, more = '') => `alert:\n${more}  channels:\n${channels.map((c) => `    - { ${c} }\n`).join('')}  routes: [{ channels: [${/name: ([a-z0-9-]+)/.exec(channels[0])[1]}] }]\n`;

async function ready(stack) {
  await until('the alert service to answer', async () => (await stack.cli(['alert', 'test', 'nobody'])).code !== 3, 30000);
}

describe('channels', { concurrency: 2 }, () => {
  test('mail: TLS, login, receivers that are refused', { timeout: 120000 }, async () => {
    const open = [];
    try {
      await withStack('mail', (stack) => {
        stack.tls = certificate(stack.dir, 'server');
        certificate(stack.dir, 'other');
        return 'alert: {}\n';
      }, async (stack) => {
        const smtps = await mailServer({ secure: true, login: true, ...stack.tls });
        const starttls = await mailServer({ secure: false, login: true, ...stack.tls });
        const plain = await mailServer({ secure: false, hideSTARTTLS: true });
        open.push(smtps, starttls, plain);
        const ca = `ca_file: ${path.join(stack.dir, 'server.pem')}`;
        const to = 'from: r@example.org, to: [ann@example.org, gone@example.org, bob@example.org], attempt: 5s';
        stack.writeSettings(alertYaml([
          `name: smtps, type: email, url: "smtps://127.0.0.1:${smtps.port}", user: eve, password: secret, ${ca}, ${to}`,
          `name: starttls, type: email, url: "smtp://127.0.0.1:${starttls.port}", starttls: true, user: eve, password: secret, ${ca}, ${to}`,
          `name: wrong-ca, type: email, url: "smtps://127.0.0.1:${smtps.port}", user: eve, password: secret, ca_file: ${path.join(stack.dir, 'other.pem')}, ${to}`,
          `name: wrong-login, type: email, url: "smtps://127.0.0.1:${smtps.port}", user: eve, password: guess, ${ca}, ${to}`,
          `name: no-tls, type: email, url: "smtp://127.0.0.1:${plain.port}", starttls: true, ${to}`,
          `name: nobody-there, type: email, url: "smtp://127.0.0.1:${plain.port}", from: r@example.org, to: [gone@example.org, gone2@example.org], attempt: 5s`,
        ]));
        stack.run('alert');
        await ready(stack);
        const receipts = [];
        const nc = await stack.nats();
        const sub = nc.subscribe('redoubt.v1.delivery.>');
        (async () => { for await (const m of sub) receipts.push(decode('DeliveryReceipt', m.data)); })();
        await nc.flush();
        const ask = async (channel) => stack.cli(['alert', 'test', channel]);
        for (const [name, server] of [['smtps', smtps], ['starttls', starttls]]) {
          const r = await ask(name);
          assert.equal(r.code, 0, r.out + r.err);
          assert.match(r.out, /taken for 2 of 3 receivers/);
          assert.equal(server.mails.length, 1);
          assert.deepEqual(server.mails[0].to, ['ann@example.org', 'bob@example.org']);
          assert.equal(server.mails[0].secure, true);
          assert.equal(server.mails[0].user, 'eve');
          const [receipt] = await until('its receipt', () => { const l = receipts.filter((x) => x.channel === name); return l.length ? l : null; });
          assert.equal(receipt.status, 'DELIVERY_STATUS_ACCEPTED');
          assert.equal(receipt.refused.length, 1);
          assert.match(receipt.refused[0], /^gone@example\.org: 550 .*no such user/);
        }
        for (const [name, why] of [['wrong-ca', /certificate|trusted/i], ['wrong-login', /login|535/i], ['no-tls', /TLS|trusted/i], ['nobody-there', /none of 2 receivers is taken; gone@example\.org: 550/]]) {
          const r = await ask(name);
          assert.notEqual(r.code, 0, name);
          assert.match(r.out + r.err, why, name);
          assert.doesNotMatch(r.out + r.err, /secret|guess/);
        }
        assert.equal(smtps.mails.length, 1);
        assert.equal(plain.mails.length, 0);
        assert.doesNotMatch(stack.log('alert'), /guess/);
      }, { services: [] });
    } finally {
      await Promise.all(open.map((s) => s.close()));
    }
  });

  test('syslog, NATS, a program, a file', { timeout: 120000 }, async () => {
    const got = { udp: '', tcp: '', tls: '' };
    const udp = dgram.createSocket('udp4').on('message', (m) => { got.udp += `${m}\n`; });
    udp.bind(0, '127.0.0.1');
    await once(udp, 'listening');
    const collect = (name) => (c) => c.on('data', (d) => { got[name] += d; }).on('error', () => {});
    const tcp = net.createServer(collect('tcp')).listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    let secure;
    try {
      await withStack('chan', (stack) => {
        stack.tls = certificate(stack.dir, 'server');
        return 'alert: {}\n';
      }, async (stack) => {
        secure = tls.createServer(stack.tls, collect('tls')).on('tlsClientError', () => {}).listen(0, '127.0.0.1');
        await once(secure, 'listening');
        const program = path.join(stack.dir, 'pager');
        fs.writeFileSync(program, `#!/bin/sh\ncat > ${stack.dir}/paged\necho "paged $REDOUBT_ALERT_SEVERITY"\n`, { mode: 0o700 });
        stack.writeSettings(alertYaml([
          `name: record, type: file, path: ${stack.dir}/alerts.jsonl`,
          `name: udp, type: syslog, url: "udp://127.0.0.1:${udp.address().port}"`,
          `name: tcp, type: syslog, url: "tcp://127.0.0.1:${tcp.address().port}"`,
          `name: tls, type: syslog, url: "tls://127.0.0.1:${secure.address().port}", ca_file: ${stack.dir}/server.pem`,
          'name: bus, type: nats, subject: ops.alerts, template: "{who: .alerts[0].source, what: .title}"',
          `name: pager, type: exec, command: ["${program}"]`,
        ], `  exec_allowed: ["${program}"]\n`));
        stack.run('alert');
        await ready(stack);
        const nc = await stack.nats();
        const heard = [];
        const sub = nc.subscribe('ops.alerts');
        (async () => { for await (const m of sub) heard.push(m); })();
        await nc.flush();
        for (const name of ['record', 'udp', 'tcp', 'tls', 'bus', 'pager']) {
          const r = await stack.cli(['alert', 'test', name]);
          assert.equal(r.code, 0, `${name}: ${r.out}${r.err}`);
        }
        for (const name of ['udp', 'tcp', 'tls']) {
          await until(`the entry by ${name}`, () => got[name].includes('Test of alert channel'));
          assert.match(got[name], /<134>1 \d{4}-\d\d-\d\dT[0-9:.]+Z \S+ redoubt-alert \d+ alert \[redoubt@32473 id="test-[^"]+" severity="INFO"/);
        }
        await until('the message on NATS', () => heard.length === 1);
        assert.match(heard[0].headers.get('Nats-Msg-Id'), /^test-/);
        assert.equal(JSON.parse(heard[0].string()).who, 'alert');
        assert.match(JSON.parse(heard[0].string()).what, /Test of alert channel bus/);
        assert.match(fs.readFileSync(`${stack.dir}/paged`, 'utf8'), /Test of alert channel pager/);
        assert.match(fs.readFileSync(`${stack.dir}/alerts.jsonl`, 'utf8'), /Test of alert channel record/);

        // A real alert by a chain of them: the program is taken away, so syslog has it.
        stack.writeSettings(`alert:\n  exec_allowed: ["${program}"]\n  channels:
    - { name: pager, type: exec, command: ["${program}"] }
    - { name: tcp, type: syslog, url: "tcp://127.0.0.1:${tcp.address().port}" }
  routes: [{ channels: [pager, tcp] }]\n`);
        fs.rmSync(program);
        process.kill(stack.pid('alert'), 'SIGHUP');
        await until('the new settings', () => stack.log('alert').includes('settings reloaded'));
        const alert = { id: 'real-1', dedup_key: 'real', severity: 'SEVERITY_HIGH', source: 'test', summary: 'a real one', raised_unix_ms: Date.now() };
        await nc.jetstream().publish('redoubt.v1.alert', encode('Alert', alert), { headers: ceHeaders('Alert', 'real-1', 'test') });
        await until('the real one by syslog', () => got.tcp.includes('id="real-1"'));
      }, { services: [] });
    } finally {
      udp.close();
      tcp.close();
      secure?.close();
    }
  });
});

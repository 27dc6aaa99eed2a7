// alerts.test.mjs - alerts as an operator lives with them: by the command, against a real suite, with a webhook that counts what people were told.
import assert from 'node:assert/strict';
import http from 'node:http';
import { once } from 'node:events';
import path from 'node:path';
import { test } from 'node:test';
import { ceHeaders, decode, encode } from './lib/contract.mjs';
import { withStack } from './lib/stack.mjs';
import { until } from './lib/wait.mjs';

// Takes what Slack would take; `told` holds the text of each message.
async function chat() {
  const told = [];
  const server = http.createServer((req, res) => {
    const parts = [];
    req.on('data', (p) => parts.push(p));
    req.on('end', () => {
      told.push(Buffer.concat(parts).toString());
      res.writeHead(200, { 'content-type': 'text/plain' }).end('ok');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { told, url: `http://127.0.0.1:${server.address().port}/hook`, close: () => { server.closeAllConnections(); server.close(); } };
}

test('an operator and a problem', { timeout: 120000 }, async () => {
  const c = await chat();
  try {
    await withStack('alerts', (stack) => `alert:
  lease_ttl: 500ms
  channels:
    - { name: chat, type: slack, url: "${c.url}", rate: 0 }
    - { name: record, type: file, path: ${path.join(stack.dir, 'alerts.jsonl')} }
  routes:
    - { name: all, channels: [record, chat] }
`, async (stack) => {
      const nc = await stack.nats();
      const js = nc.jetstream();
      const records = [];
      const sub = nc.subscribe('redoubt.v1.audit.alert', { callback: (_e, m) => {
        const type = m.headers?.get('ce-type');
        if (type === 'redoubt.v1.AuditBatch') records.push(...decode('AuditBatch', m.data).records);
        else records.push(decode('AuditRecord', m.data));
      } });
      const raise = async (id, key, severity = 'SEVERITY_HIGH', more = {}) => {
        const a = { id, dedup_key: key, severity, source: 'e2e', summary: `summary of ${id}.`, raised_unix_ms: Date.now(), ...more };
        await until('the stream of alerts', () => js.publish('redoubt.v1.alert', encode('Alert', a), { headers: ceHeaders('Alert', id, 'e2e'), msgID: id }).catch(() => null));
      };
      const cli = async (...args) => {
        const r = await stack.cli(['alert', ...args]);
        r.all = r.out + r.err;
        return r;
      };
      const ok = async (...args) => {
        const r = await cli(...args);
        assert.equal(r.code, 0, `alert ${args.join(' ')}: ${r.all}`);
        return r.out;
      };
      const told = (text) => c.told.filter((t) => t.includes(text)).length;

      await until('the service to answer', async () => (await cli('list')).code === 0);
      assert.match(await ok('list'), /no problems/);
      assert.equal((await cli('show', 'nothing')).code, 4);

      await raise('a1', 'llm/primary', 'SEVERITY_HIGH', { labels: [{ key: 'team', value: 'red' }], detail: 'it does not answer' });
      await raise('b1', 'disk/host-1', 'SEVERITY_WARNING');
      await until('both to be told', () => told('summary of a1.') === 1 && told('summary of b1.') === 1);
      await until('the list', async () => /llm\/primary/.test(await ok('list')));
      const table = await ok('list');
      assert.match(table, /HIGH +FIRING .* llm\/primary +summary of a1\./);
      assert.match(table, /WARNING +FIRING .* disk\/host-1/);
      const list = JSON.parse(await ok('list', '--json'));
      assert.equal(list.total, 2);
      assert.equal(list.problems.length, 2);
      assert.equal(JSON.parse(await ok('list', '--json', '-n', '1')).problems.length, 1);

      // Who was told, when and by what.
      await until('the receipts', async () => /chat +ACCEPTED/.test(await ok('show', 'llm/primary')));
      const shown = await ok('show', 'llm/primary');
      for (const part of [/HIGH FIRING +summary of a1\./, /it does not answer/, /team=red/, /record +RECORDED/, /route +all/]) assert.match(shown, part);
      const { problem, receipts } = JSON.parse(await ok('show', 'llm/primary', '--json'));
      assert.equal(problem.state, 'FIRING');
      assert.ok(receipts.every((r) => r.dedupKey === 'llm/primary') && receipts.some((r) => r.channel === 'chat' && r.status === 'ACCEPTED'));

      // Taken on: who and why are asked for, and are in the trail before it holds.
      assert.equal((await cli('ack', 'llm/primary')).code, 2);
      assert.equal((await cli('ack', 'no/such', '--by', 'eve', '--reason', 'r')).code, 4);
      await ok('ack', 'llm/primary', '--by', 'eve', '--reason', 'looking at it', '--for', '1h');
      assert.match(await ok('list'), /ACKNOWLEDGED .* eve until /);
      assert.match(await ok('show', problem.id), /acknowledged +eve until .*: looking at it/);
      await raise('a2', 'llm/primary');
      await until('a2 to be muted', async () => /MUTED/.test(await ok('show', 'llm/primary')));
      assert.equal(told('summary of a2.'), 0);
      await ok('unack', 'llm/primary', '--by', 'eve', '--reason', 'not mine');
      await until('it to be told again', () => told('given back') === 1);
      assert.equal((await cli('unack', 'llm/primary', '--by', 'eve', '--reason', 'again')).code, 4);

      // Silenced: always with an end; what it would mute can be seen before.
      assert.equal((await cli('silence', 'label.team=red', '--by', 'eve', '--reason', 'r')).code, 2);
      assert.equal((await cli('silence', 'colour=red', '--for', '1h', '--by', 'eve', '--reason', 'r')).code, 2);
      assert.equal((await cli('silence', 'label.team=red', '--for', '31d', '--by', 'eve', '--reason', 'r')).code, 2);
      const preview = await ok('silence', 'dedup_key=~disk/.*', '--dry-run');
      assert.match(preview, /disk\/host-1[^]*would mute 1 of 2 problems; nothing was done/);
      assert.match(await ok('silences'), /no silences/);
      const silence = JSON.parse(await ok('silence', 'dedup_key=~disk/.*', 'severity<=high', '--for', '1h', '--by', 'eve', '--reason', 'planned work', '--json'));
      assert.match(await ok('silences'), new RegExp(`${silence.id} .* eve +dedup_key=~disk/\\.\\* severity<=high +planned work`));
      await until('what is there to be muted', async () => new RegExp(`MUTED .* silence/${silence.id}`).test(await ok('list')));
      await raise('b2', 'disk/host-2', 'SEVERITY_HIGH');
      await until('b2 to be muted', async () => /MUTED/.test((await cli('show', 'disk/host-2')).out));
      assert.equal(told('summary of b2.'), 0);
      await ok('unsilence', silence.id, '--by', 'eve', '--reason', 'done early');
      await until('both disks to be told', () => told('was muted; still there') === 2);
      assert.equal((await cli('unsilence', silence.id, '--by', 'eve', '--reason', 'r')).code, 4);
      const later = await ok('silence', 'agent=a', '--for', '1h', '--from', '2099-01-01T00:00', '--by', 'eve', '--reason', 'r').catch((e) => String(e));
      assert.match(later, /out of range/); // not more than a year ahead

      // It ends.
      await raise('a3', 'llm/primary', 'SEVERITY_HIGH', { resolved: true });
      await until('its end to be told', () => told('summary of a3.') === 1);
      await until('it to leave the list', async () => !/llm\/primary/.test(await ok('list')));
      assert.match(await ok('list', '--all'), /RESOLVED .* llm\/primary/);

      // Channels.
      assert.match(await ok('channels'), /chat +slack +OK/);
      assert.match(await ok('channels'), /2 problems, 0 silences in force/);
      assert.match(await ok('test', 'chat'), /accepted the test/);

      // Each act is in the trail twice: before it, strictly, and when it was done; with who, why and until when.
      await until('the trail', () => records.filter((r) => r.action === 'alert.unsilenced').length === 2);
      for (const action of ['alert.acknowledged', 'alert.unacknowledged', 'alert.silenced', 'alert.unsilenced']) {
        const two = records.filter((r) => r.action === action);
        assert.deepEqual(two.map((r) => [r.outcome, r.actor]), [['AUDIT_OUTCOME_INTENDED', 'eve'], ['AUDIT_OUTCOME_DONE', 'eve']], action);
        assert.equal(two[0].audit_class, 'AUDIT_CLASS_STRICT');
        assert.ok(two[0].fields.some((f) => f.key === 'reason'));
      }
      const ack = records.find((r) => r.action === 'alert.acknowledged');
      assert.equal(ack.subject, 'llm/primary');
      assert.ok(ack.fields.some((f) => f.key === 'until'));
      sub.unsubscribe();
    }, { services: ['alert'] });
  } finally {
    c.close();
  }
});

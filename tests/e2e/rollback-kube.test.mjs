// rollback-kube.test.mjs - rollbacks in Kubernetes by the real redoubt-rollback, against an API server that does everything that a real one does to its clients.
import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { promisify } from 'node:util';
import { top } from './lib/contract.mjs';
import { KubeApi, deployment, digestOf } from './lib/kube.mjs';
import { Stack } from './lib/stack.mjs';
import { until } from './lib/wait.mjs';

const run = promisify(execFile);
const bin = process.env.REDOUBT_BIN ?? path.join(top, 'build/bin');
const TRAFFIC = { 'io.redoubt.traffic': 'on' };
const COUNT = 4;

// All pods answer at one port; what they say goes by the version and the side that ask.
async function agents() {
  const a = { bad: () => false, asked: 0 };
  a.server = http.createServer((req, res) => {
    a.asked++;
    res.writeHead(a.bad(new URL(req.url, 'http://x').searchParams) ? 500 : 200).end('ok');
  });
  await new Promise((done) => a.server.listen(0, '127.0.0.1', done));
  a.port = a.server.address().port;
  return a;
}

const settings = (port, token, kubernetes, traffic, data) => `
rollback:
  observe: 200ms
  deployments:
    - name: mcp
      executor: kubernetes
      kubernetes: {server: "http://127.0.0.1:${port}", token_file: ${token}, namespace: agents, deployment: stable, rollout: 20s, ${kubernetes}}
      traffic: {${traffic}}
      step: 500ms
      check_every: 100ms
      settle: 300ms
      drain: 200ms
      watch: 500ms
      capacity_wait: 20s
      checks:
        - {name: health, type: http, class: security, compare: false, url: "http://{{address}}/health?digest={{digest}}", timeout: 5s}
${data}`;

async function town(name, { kubernetes = 'canary: canary', traffic = 'type: replicas', objects = {}, data = () => '' }, body) {
  const api = new KubeApi();
  const agent = await agents();
  const stack = new Stack(name);
  const token = path.join(stack.dir, 'token');
  const t = { api, agent, stack, token };
  t.deploy = (who, image, n, more = {}) => {
    const d = deployment(who, image, n, { ...more, template: { ports: [{ containerPort: agent.port }], ...more.template } });
    d.spec = { ...d.spec, ...more.spec };
    delete d.spec.template.spec.spec;
    return api.apply('deployments', d);
  };
  t.status = async () => {
    const { out } = await stack.cli(['rollback', 'status', 'mcp', '--json']);
    const s = out.trim() ? JSON.parse(out) : {};
    return s.rollback ?? s;
  };
  t.version = (s, image) => s.versions?.find((v) => v.digest === digestOf(image));
  t.verified = (image) => until(() => `${image} to be verified`, async () => {
    const s = await t.status();
    const v = t.version(s, image);
    return v && v.state === 'VERIFIED' && s.currentVersion === v.id && s;
  });
  // A whole rollback may take longer than stack.cli() waits.
  t.order = (verb, ...args) => new Promise((done) => {
    execFile(path.join(bin, 'redoubt'), ['rollback', verb, 'mcp', '--by', 'test', '--reason', 'test', ...args], { env: { ...process.env, REDOUBT_CONFIG: stack.config }, timeout: 200000 },
      (e, out, err) => done({ code: e ? e.code : 0, out, err }));
  });
  try {
    fs.writeFileSync(token, 'first');
    const port = await api.listen(0);
    for (const [resource, list] of Object.entries(objects)) for (const o of list) api.apply(resource, o);
    await stack.start(settings(port, token, kubernetes, traffic, data(stack.dir)), { services: ['audit'] });
    stack.define('rollback', path.join(bin, 'redoubt-rollback'), ['-c', stack.config]);
    stack.run('rollback');
    await body(t);
  } catch (e) {
    e.message += `\n${stack.tails()}`;
    throw e;
  } finally {
    await stack.dispose();
    api.close();
    agent.server.closeAllConnections();
    agent.server.close();
  }
}

const service = (name, selector) => ({ metadata: { name }, spec: { selector, ports: [{ port: 80 }] } });

// What the Service has at every moment: [ready of stable, ready of canary].
function watchEndpoints(api) {
  const seen = [];
  const timer = setInterval(() => {
    const endpoints = api.objects.get('endpointslices/agent-slice')?.endpoints ?? [];
    const of = (d) => endpoints.filter((e) => e.targetRef.name.startsWith(`${d}-`) && e.conditions.ready).length;
    seen.push([of('stable'), of('canary')]);
  }, 10);
  timer.unref(); // a test that fails ends all the same
  return { seen, end: () => clearInterval(timer) };
}

describe('rollbacks in Kubernetes', { concurrency: 2, timeout: 240000 }, () => {
  test('a pair, by numbers of pods: the mission\'s job, with everything that can happen to a client', async () => {
    const objects = { services: [service('agent', { app: 'agent', ...TRAFFIC })], configmaps: [{ metadata: { name: 'conf' }, data: { mode: 'strict' } }] };
    await town('kube-pair', { objects }, async (t) => {
      const from = { labels: TRAFFIC, template: { envFrom: [{ configMapRef: { name: 'conf' } }] } };
      t.deploy('stable', 'reg.example/agent:v1', COUNT, from);
      t.deploy('canary', 'reg.example/agent:v1', 0);
      await t.verified('reg.example/agent:v1');
      t.api.apply('configmaps', { metadata: { name: 'conf' }, data: { mode: 'lax' } });
      t.deploy('stable', 'reg.example/agent:v2', COUNT, from);
      await t.verified('reg.example/agent:v2');

      const eyes = watchEndpoints(t.api);
      // Watches are cut, somebody else is faster, there are too many requests, connections break, the token rotates, and the service is killed.
      t.api.cut = 200;
      t.api.conflicts = 2;
      t.api.faults = [{ times: 3, status: 429, retryAfter: 0, method: 'PATCH' }, { times: 2, match: 'pods' }];
      const rotation = setInterval(() => {
        const next = `token-${Date.now()}`;
        fs.writeFileSync(`${t.token}.new`, next);
        fs.renameSync(`${t.token}.new`, t.token);
        t.api.token = next;
      }, 700);
      rotation.unref();
      const job = t.order('run', '--to', 'v1');
      await until('the canary to have traffic', () => eyes.seen.at(-1)?.[1] > 0);
      await t.stack.kill('rollback');
      t.stack.run('rollback');
      const { code, out, err } = await job;
      clearInterval(rotation);
      eyes.end();
      assert.equal(code, 0, `${out}${err}`);

      // Never fewer than are needed; never a jump: the canary takes over by and by, and gives back what is the same version.
      assert.ok(eyes.seen.every(([a, b]) => a + b >= COUNT), JSON.stringify(eyes.seen.filter(([a, b]) => a + b < COUNT)));
      const shares = eyes.seen.map(([a, b]) => Math.round((100 * b) / (a + b)));
      const to100 = shares.slice(0, shares.indexOf(100) + 1);
      for (const share of [0, 50, 75, 80, 100]) assert.ok(to100.includes(share), `${share}% of ${[...new Set(to100)]}`);

      const stable = t.api.get('deployments', 'stable');
      assert.equal(stable.spec.template.spec.containers[0].image, `reg.example/agent@${digestOf('reg.example/agent:v1')}`);
      const copy = stable.spec.template.spec.containers[0].envFrom[0].configMapRef.name;
      assert.equal(t.api.get('configmaps', copy).data.mode, 'strict'); // as it was
      assert.equal(t.api.get('configmaps', 'conf').data.mode, 'lax'); // and somebody else's is left alone
      assert.equal(t.api.get('deployments', 'canary').spec.replicas, 0);
      assert.equal(t.api.list('configmaps').length, 2);
      await until('the pods of the canary to be gone', () => t.api.list('pods').length === COUNT);
      const s = await t.status();
      assert.equal(s.phase, 'DONE');
      assert.equal(s.currentVersion, t.version(s, 'reg.example/agent:v1').id);
      assert.ok(t.api.seen.throttled >= 1 && t.api.seen.conflicts === 2 && t.api.seen.unauthorized >= 1, JSON.stringify({ ...t.api.seen, requests: 0 }));
      assert.equal(t.api.seen.secrets_read, 0);
    });
  });

  test('one Deployment by patch: killed in the middle of its rollout, and a deadline that was missed before', async () => {
    await town('kube-patch', { kubernetes: '', traffic: 'type: none' }, async (t) => {
      const spec = { progressDeadlineSeconds: 2 };
      t.deploy('stable', 'agent:v1', 2, { spec });
      await t.verified('agent:v1');
      t.deploy('stable', 'agent-sick:v2', 2, { spec });
      await until('v2 to be seen', async () => t.version(await t.status(), 'agent-sick:v2'));
      await until('its deadline to be missed', () => t.api.get('deployments', 'stable').status.conditions[0].reason === 'ProgressDeadlineExceeded');
      t.api.stale = true;
      t.api.ready_ms = 600;
      t.api.cut = 200;
      const job = t.order('run', '--to', 'v1');
      await until('the patch', () => t.api.get('deployments', 'stable').spec.template.spec.containers[0].image.includes(digestOf('agent:v1')));
      await t.stack.kill('rollback');
      t.stack.run('rollback');
      const { code, out, err } = await job;
      assert.equal(code, 0, `${out}${err}`);
      assert.equal(t.api.get('deployments', 'stable').spec.template.spec.containers[0].image, `agent@${digestOf('agent:v1')}`);
      await until('only new pods', () => t.api.list('pods').length === 2);
      assert.equal((await t.status()).phase, 'DONE');
    });
  });

  const restic = (() => { try { return execFileSync('sh', ['-c', 'command -v restic']).length > 0; } catch { return false; } })();
  test('data that are newer than the code: the newer version migrates them down by a Job, which is found after a crash', { skip: restic ? false : 'restic is not installed' }, async () => {
    const data = (dir) => {
      const of = (name) => path.join(dir, name);
      fs.mkdirSync(of('learning'));
      fs.writeFileSync(of('learning/model'), 'schema 2');
      fs.writeFileSync(of('password'), 'not a secret\n', { mode: 0o600 });
      execFileSync('restic', ['init', '-q', '--no-cache', '-r', of('repository'), '--password-file', of('password')]);
      return `      data:
        repository: ${of('repository')}
        password_file: ${of('password')}
        path: [${of('learning')}]
        migrate: [agent-migrate, "{{from_schema}}", "{{to_schema}}"]
`;
    };
    const objects = { services: [service('agent', { app: 'agent', ...TRAFFIC })] };
    await town('kube-migrate', { data, objects }, async (t) => {
      const schema = (image, n) => {
        const d = t.deploy('stable', image, 2, { labels: TRAFFIC });
        d.spec.template.metadata.annotations = { 'io.redoubt.data-schema': String(n) };
        return t.api.apply('deployments', d);
      };
      schema('agent:v1', 1);
      t.deploy('canary', 'agent:v1', 0);
      await t.verified('agent:v1');
      schema('agent:v2', 2);
      await t.verified('agent:v2');
      t.api.job_ms = 1000;
      t.api.cut = 200;
      const job = t.order('run', '--to', 'v1');
      await until('the Job to run', () => t.api.seen.ran === 1);
      const [made] = t.api.list('jobs');
      const [container] = made.spec.template.spec.containers;
      assert.deepEqual(container.command, ['agent-migrate', '2', '1']);
      assert.equal(container.image, `agent@${digestOf('agent:v2')}`);
      await t.stack.kill('rollback');
      t.stack.run('rollback');
      // Nothing of the older version begins before its end.
      await until('the Job to end', () => {
        const ended = t.api.list('jobs')[0]?.status.conditions;
        if (!ended) assert.equal(t.api.get('deployments', 'canary').spec.replicas, 0);
        return ended;
      });
      const { code, out, err } = await job;
      assert.equal(code, 0, `${out}${err}`);
      assert.equal((await t.status()).phase, 'DONE');
      assert.equal(t.api.seen.ran, 1);
      assert.equal(t.api.get('deployments', 'stable').spec.template.spec.containers[0].image, `agent@${digestOf('agent:v1')}`);
      await until('the Job and its pod to be gone', () => t.api.list('jobs').length === 0 && t.api.list('pods').length === 2);

      // One that fails holds the rollback, before anything has changed, and says why.
      schema('agent-fail:v3', 2);
      await t.verified('agent-fail:v3');
      t.api.job_ms = 100;
      assert.equal((await t.order('start', '--to', 'v1')).code, 0);
      const held = await until('it to hold', async () => {
        const s = await t.status();
        return s.phase === 'HOLD' && s;
      });
      assert.match(JSON.stringify(held), /ended with 3 \(Error\); its log ends with: .*agent-migrate 2 1 said: ü/);
      assert.equal(t.api.list('jobs').length, 0);
      assert.equal(t.api.get('deployments', 'canary').spec.replicas, 0);
      assert.equal((await t.order('abort')).code, 0);
      await until('all to be back', async () => (await t.status()).phase === 'ABORTED');
      assert.match(t.api.get('deployments', 'stable').spec.template.spec.containers[0].image, /agent-fail:v3/);
      assert.equal(t.api.get('deployments', 'stable').spec.replicas, 2);
    });
  });

  test('a pair behind an HTTPRoute: a security regression holds at the first step that shows it, and abort gives all back', async () => {
    const objects = {
      services: [service('agent-stable', { app: 'agent', track: 'stable' }), service('agent-canary', { app: 'agent', track: 'canary' })],
      httproutes: [{ metadata: { name: 'agent' }, spec: { parentRefs: [{ name: 'public' }], rules: [{ backendRefs: [{ name: 'agent-stable', port: 80, weight: 1 }, { name: 'agent-canary', port: 80, weight: 0 }] }] } }],
    };
    await town('kube-route', { traffic: 'type: httproute, route: agent, side_0: [agent-stable], side_1: [agent-canary]', objects }, async (t) => {
      const weights = () => t.api.get('httproutes', 'agent').spec.rules[0].backendRefs.map((b) => b.weight);
      t.deploy('stable', 'agent:v1', 2);
      t.deploy('canary', 'agent:v1', 0);
      await t.verified('agent:v1');
      t.deploy('stable', 'agent:v2', 2);
      await t.verified('agent:v2');
      // It shows with load only: as soon as the target has more than half.
      t.agent.bad = (q) => q.get('digest') === digestOf('agent:v1') && weights()[1] > 50;
      assert.equal((await t.order('start', '--to', 'v1')).code, 0);
      const held = await until('it to hold', async () => {
        const s = await t.status();
        return s.phase === 'HOLD' && s;
      });
      assert.equal(held.hold, 'REGRESSION');
      // It may show before the step is read back: then it stays at the step before.
      assert.ok([50, 25].includes(held.weightPercent), held.weightPercent);
      await until('the weights to be those of the hold', () => weights()[0] === held.weightPercent && weights()[1] === 100 - held.weightPercent);
      assert.equal((await t.order('abort')).code, 0);
      await until('all to be back', async () => (await t.status()).phase === 'ABORTED');
      assert.deepEqual(weights(), [100, 0]);
      assert.equal(t.api.get('deployments', 'canary').spec.replicas, 0);
      assert.match(t.api.get('deployments', 'stable').spec.template.spec.containers[0].image, /agent:v2/);
    });
  });

  test('what cannot be is refused before anything has changed', async () => {
    const objects = { services: [service('agent', { app: 'agent', ...TRAFFIC })] };
    await town('kube-refused', { objects }, async (t) => {
      t.deploy('stable', 'agent:v1', 2, { labels: TRAFFIC });
      t.deploy('canary', 'agent:v1', 0);
      await t.verified('agent:v1');
      t.deploy('stable', 'agent:v2', 2, { labels: TRAFFIC });
      await t.verified('agent:v2');
      const before = JSON.stringify([t.api.get('deployments', 'stable').spec, t.api.get('deployments', 'canary').spec]);
      const cases = [
        [() => t.api.denied.add('patch deployments'), /these rights are missing in namespace agents: patch deployments\.apps/, () => t.api.denied.clear()],
        [() => t.api.apply('horizontalpodautoscalers', { metadata: { name: 'h' }, spec: { scaleTargetRef: { kind: 'Deployment', name: 'stable' } } }), /HorizontalPodAutoscaler h/, () => t.api.remove('horizontalpodautoscalers', 'h')],
        [() => t.api.apply('services', service('blind', { app: 'agent' })), /Service blind would send work to every pod/, () => t.api.remove('services', 'blind')],
      ];
      for (const [spoil, words, mend] of cases) {
        spoil();
        const { code, out, err } = await t.order('run', '--to', 'v1');
        assert.equal(code, 1, `${out}${err}`);
        assert.match((await t.status()).history[0].reason, words);
        assert.equal((await t.status()).phase, 'REFUSED');
        mend();
      }
      assert.equal(JSON.stringify([t.api.get('deployments', 'stable').spec, t.api.get('deployments', 'canary').spec]), before);
    });
  });

  test('the manifests are ones that kubectl takes, and give the rights that are asked for', async () => {
    const api = new KubeApi();
    const home = fs.mkdtempSync(path.join(os.tmpdir(), 'redoubt-kubectl-'));
    try {
      const port = await api.listen(0);
      const { stdout } = await run('kubectl', ['--server', `http://127.0.0.1:${port}`, '--cache-dir', home, 'create', '--dry-run=client', '--validate=false', '-o', 'json', '-f', path.join(top, 'deploy/k8s')],
        { env: { ...process.env, HOME: home, KUBECONFIG: path.join(home, 'none') } });
      // One object, a list, or several one behind the other.
      const made = stdout.split(/^(?=\{)/m).map((text) => JSON.parse(text)).flatMap((o) => (o.kind === 'List' ? o.items : [o]));
      const of = (kind, name) => made.find((o) => o.kind === kind && o.metadata.name === name);
      assert.ok(made.length >= 12 && made.every((o) => o.metadata.namespace === 'agents'));
      const job = of('Job', 'agent-rollback').spec.template.spec.containers[0];
      assert.deepEqual(job.command, ['redoubt', 'rollback', 'run', 'mcp-security-agent']);
      // The pair is one that the service accepts: a label of its own each, and traffic by the Service's own label.
      const [stable, canary] = [of('Deployment', 'mcp-security-agent'), of('Deployment', 'mcp-security-agent-canary')];
      assert.notDeepEqual(stable.spec.selector, canary.spec.selector);
      assert.equal(of('Service', 'mcp-security-agent').spec.selector['io.redoubt.traffic'], stable.spec.template.metadata.labels['io.redoubt.traffic']);
      assert.equal(canary.spec.template.metadata.labels['io.redoubt.traffic'], undefined);
      // Every right of kube_check.c's table is given, but for the one on secrets.
      const rules = of('Role', 'redoubt-rollback').rules;
      const given = (verb, resource) => rules.some((r) => r.verbs.includes(verb) && r.resources.includes(resource));
      const asked = [...fs.readFileSync(path.join(top, 'services/rollback/kube_check.c'), 'utf8').matchAll(/\{KUBE_(\w+), "(\w+)", (true|false)\}/g)];
      const names = { DEPLOYMENTS: 'deployments', PODS: 'pods', CONFIGMAPS: 'configmaps', SECRETS: 'secrets', SCALERS: 'horizontalpodautoscalers', JOBS: 'jobs', LOGS: 'pods/log' };
      assert.ok(asked.length >= 16);
      for (const [, kind, verb] of asked) assert.equal(given(verb, names[kind]), kind !== 'SECRETS', `${verb} ${names[kind]}`);
      // And its settings are ones that the service takes.
      const file = path.join(home, 'redoubt.yaml');
      fs.writeFileSync(file, of('ConfigMap', 'redoubt-rollback').data['redoubt.yaml']);
      await run(path.join(bin, 'redoubt'), ['config', 'check', file]);
    } finally {
      api.close();
      fs.rmSync(home, { recursive: true, force: true });
    }
  });
});

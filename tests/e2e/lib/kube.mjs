// kube.mjs - an API server of Kubernetes for tests: behaves as the real one and its Deployment controller do, and in every wrong way on demand.
//
//   node kube.mjs PORT [CERT KEY]     namespace `agents`; POST /_test {...} changes objects and faults, GET /_test tells what was seen
//
// What is there: Deployments with generation, conditions and pods that come and become ready with delays; EndpointSlices of Services; gateways that
// take HTTPRoutes; Jobs whose pods run, end and have a log; watches with resourceVersion, 410 and cuts; 409/422 for who was slower; 401 after the token has rotated; 403 with reviews; 429.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { pathToFileURL } from 'node:url';

const NS = 'agents';
const TICK_MS = 15;
const EVENTS_KEPT = 40;
const GROUPS = {
  v1: { pods: 'Pod', configmaps: 'ConfigMap', secrets: 'Secret', services: 'Service', serviceaccounts: 'ServiceAccount', persistentvolumeclaims: 'PersistentVolumeClaim' },
  'apps/v1': { deployments: 'Deployment' },
  'batch/v1': { jobs: 'Job' },
  'networking.k8s.io/v1': { networkpolicies: 'NetworkPolicy' },
  'policy/v1': { poddisruptionbudgets: 'PodDisruptionBudget' },
  'rbac.authorization.k8s.io/v1': { roles: 'Role', rolebindings: 'RoleBinding' },
  'discovery.k8s.io/v1': { endpointslices: 'EndpointSlice' },
  'autoscaling/v1': { horizontalpodautoscalers: 'HorizontalPodAutoscaler' },
  'gateway.networking.k8s.io/v1': { httproutes: 'HTTPRoute', gateways: 'Gateway' },
  'authorization.k8s.io/v1': { selfsubjectaccessreviews: 'SelfSubjectAccessReview' },
};
const sha = (s) => createHash('sha256').update(s).digest('hex');
const clone = (o) => structuredClone(o);
const now = () => new Date().toISOString().replace(/\.\d+Z$/, 'Z');
export const digestOf = (image) => image.match(/@(sha256:[0-9a-f]{64})$/)?.[1] ?? `sha256:${sha(image)}`;

class ApiError extends Error {
  constructor(code, reason, message, headers = {}) {
    super(message);
    Object.assign(this, { code, reason, headers });
  }
}

function at(object, path) {
  const keys = path.split('/').slice(1).map((k) => k.replaceAll('~1', '/').replaceAll('~0', '~'));
  const last = keys.pop();
  for (const k of keys) {
    object = object?.[k];
    if (object === undefined) throw new ApiError(422, 'Invalid', `the server rejected our request due to an error in our request: ${path}`);
  }
  return [object, last];
}

function jsonPatch(object, ops) {
  const o = clone(object);
  for (const { op, path, value } of ops) {
    const [parent, key] = at(o, path);
    if (op === 'test' && JSON.stringify(parent[key]) !== JSON.stringify(value))
      throw new ApiError(422, 'Invalid', `the server rejected our request due to an error in our request: testing path ${path} failed`);
    if (op === 'replace' && parent[key] === undefined) throw new ApiError(422, 'Invalid', `replace: ${path} is not there`);
    if (op === 'add' || op === 'replace') parent[key] = clone(value);
    if (op === 'remove') delete parent[key];
  }
  return o;
}

function mergePatch(object, patch) {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return patch;
  const o = { ...(object ?? {}) };
  for (const [k, v] of Object.entries(patch))
    if (v === null) delete o[k];
    else o[k] = mergePatch(o[k], v);
  return o;
}

function selected(selector, labels = {}) {
  return selector.split(/,(?![^(]*\))/).filter(Boolean).every((s) => {
    const set = s.match(/^(\S+) (in|notin) \((.*)\)$/);
    if (set) return set[3].split(',').includes(labels[set[1]]) === (set[2] === 'in');
    if (s.startsWith('!')) return !(s.slice(1) in labels);
    const [k, v] = s.split('=');
    return v === undefined ? k in labels : labels[k] === v;
  });
}

export class KubeApi {
  constructor() {
    this.watchers = new Set();
    this.rv = 100;
    this.serial = 0;
    this.reset();
    this.timer = setInterval(() => this.tick(), TICK_MS);
  }

  // Empty again; watches end.
  reset() {
    for (const w of this.watchers) w.end();
    this.objects = new Map(); // "resource/name" -> object
    this.events = new Map(); // resource -> [{rv, type, object}]
    this.token = 'first';
    this.denied = new Set(); // "verb resource"
    this.faults = []; // {times, status, retryAfter, method, match}
    this.conflicts = 0; // so many PATCHes of Deployments lose against somebody else
    this.cut = 0; // watches are cut after up to so many ms
    this.ready_ms = 40;
    this.quota = Infinity; // pods of the namespace
    this.stale = false; // the controller leaves conditions as they were for a while
    this.gateways = true;
    this.gone = false; // the next watch is too old
    this.job_ms = 40; // so long a Job's command runs; it fails if it or its image is called so
    this.no_room = ''; // what the scheduler says of a Job's pod
    this.end_ms = 30; // so long a pod goes on when it is told to end
    this.no_volume = false; // a Job's pod waits for a volume
    this.seen = { requests: [], secrets_read: 0, unauthorized: 0, gone: 0, cuts: 0, conflicts: 0, dry: 0, throttled: 0, not_ready: 0, ran: 0 };
  }

  close() {
    clearInterval(this.timer);
    this.server?.closeAllConnections();
    this.server?.close();
  }

  // ---- objects ----

  list(resource) {
    return [...this.objects].filter(([k]) => k.startsWith(`${resource}/`)).map(([, o]) => o);
  }

  get(resource, name) {
    const o = this.objects.get(`${resource}/${name}`);
    if (!o) throw new ApiError(404, 'NotFound', `${resource} "${name}" not found`);
    return o;
  }

  put(resource, object, type = 'MODIFIED') {
    object.metadata.resourceVersion = String(++this.rv);
    this.objects.set(`${resource}/${object.metadata.name}`, object);
    this.event(resource, type, object);
    return object;
  }

  event(resource, type, object) {
    const log = this.events.get(resource) ?? [];
    const e = { rv: this.rv, type, object: clone(object) };
    log.push(e);
    if (log.length > EVENTS_KEPT) log.shift();
    this.events.set(resource, log);
    for (const w of this.watchers) if (w.resource === resource) w.send(e);
  }

  // Whoever changes what is wanted makes a new generation; status does not.
  store(resource, object, before) {
    object.metadata.namespace ??= NS;
    object.metadata.uid ??= `uid-${++this.serial}`;
    if (resource === 'deployments' || resource === 'httproutes') {
      if (resource === 'deployments') this.admit(object);
      const changed = !before || JSON.stringify(before.spec) !== JSON.stringify(object.spec);
      object.metadata.generation = (before?.metadata.generation ?? 0) + (changed ? 1 : 0);
    }
    if (resource === 'jobs') this.admitJob(object);
    return object;
  }

  admitJob(j) {
    const bad = (why) => { throw new ApiError(422, 'Invalid', `Job.batch "${j.metadata.name}" is invalid: ${why}`); };
    const { metadata, spec } = j.spec?.template ?? {};
    if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(j.metadata.name) || j.metadata.name.length > 63) bad('metadata.name');
    if (!['Never', 'OnFailure'].includes(spec?.restartPolicy)) bad('spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"');
    if (!spec.containers?.length || spec.containers.some((c) => !c.image)) bad('spec.template.spec.containers: Required value');
    for (const [k, v] of Object.entries({ ...j.metadata.labels, ...metadata?.labels })) if (!/^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/.test(v)) bad(`labels: Invalid value: ${k}=${v}`);
    for (const c of spec.containers) for (const m of c.volumeMounts ?? []) if (!spec.volumes?.some((v) => v.name === m.name)) bad(`spec.template.spec.containers.volumeMounts.name: Not found: ${m.name}`);
    for (const m of [j.metadata, metadata ?? {}]) m.labels = { ...m.labels, 'job-name': j.metadata.name };
  }

  admit(d) {
    const t = d.spec.template;
    d.spec.replicas ??= 1;
    t.spec.restartPolicy ??= 'Always';
    t.spec.terminationGracePeriodSeconds ??= 30;
    t.metadata.creationTimestamp ??= null;
    if (!t.spec.containers?.length || t.spec.containers.some((c) => !c.image)) throw new ApiError(422, 'Invalid', `Deployment "${d.metadata.name}" is invalid: spec.template.spec.containers: Required value`);
    for (const [k, v] of Object.entries(d.spec.selector.matchLabels))
      if (t.metadata.labels?.[k] !== v) throw new ApiError(422, 'Invalid', `Deployment "${d.metadata.name}" is invalid: spec.template.metadata.labels: \`selector\` does not match template \`labels\``);
  }

  apply(resource, object) {
    const before = this.objects.get(`${resource}/${object.metadata.name}`);
    const next = this.store(resource, { ...clone(object), status: before?.status ?? object.status ?? {} }, before);
    return this.put(resource, next, before ? 'MODIFIED' : 'ADDED');
  }

  remove(resource, name, propagation) {
    const o = this.get(resource, name);
    if (propagation === 'Background') for (const p of this.list('pods')) if (p.metadata.ownerReferences[0].uid === o.metadata.uid) this.endPod(p, Date.now());
    this.objects.delete(`${resource}/${name}`);
    this.rv++;
    this.event(resource, 'DELETED', o);
    return o;
  }

  // ---- controllers ----

  tick() {
    const t = Date.now();
    for (const d of this.list('deployments')) this.deployment(d, t);
    for (const j of this.list('jobs')) this.job(j, t);
    for (const p of this.list('pods')) p.command ? this.jobPod(p, t) : this.pod(p, t);
    this.slices();
    if (this.gateways) for (const r of this.list('httproutes')) this.route(r);
  }

  owned(d) {
    return this.list('pods').filter((p) => p.metadata.ownerReferences[0].name.startsWith(`${d.metadata.name}-`) && p.metadata.labels['pod-template-hash'] === p.metadata.ownerReferences[0].name.slice(d.metadata.name.length + 1));
  }

  deployment(d, t) {
    const hash = sha(JSON.stringify(d.spec.template)).slice(0, 10);
    const pods = this.owned(d).filter((p) => !p.metadata.deletionTimestamp);
    const fresh = pods.filter((p) => p.metadata.labels['pod-template-hash'] === hash);
    const old = pods.filter((p) => p.metadata.labels['pod-template-hash'] !== hash);
    const ready = (p) => p.status.conditions?.some((c) => c.type === 'Ready' && c.status === 'True');
    const n = d.spec.replicas;
    let failure = '';
    if (!d.spec.paused) {
      for (let i = fresh.length; i < n; i++)
        if (this.list('pods').length < this.quota) this.makePod(d, hash, t);
        else failure = `pods "${d.metadata.name}-x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=${this.quota}, limited: pods=${this.quota}`;
      for (const p of fresh.slice(n)) this.endPod(p, t);
      const spare = fresh.filter(ready).length + old.length - n;
      for (const p of old.slice(0, Math.max(0, n === 0 ? old.length : spare))) this.endPod(p, t);
    }
    const alive = this.owned(d).filter((p) => !p.metadata.deletionTimestamp);
    const updated = alive.filter((p) => p.metadata.labels['pod-template-hash'] === hash);
    const was = d.status ?? {};
    const status = { observedGeneration: d.metadata.generation, replicas: alive.length, updatedReplicas: updated.length, readyReplicas: alive.filter(ready).length, availableReplicas: alive.filter(ready).length, conditions: [] };
    const complete = updated.length === n && alive.length === n && status.availableReplicas === n;
    const seen = (was.observedGeneration ?? 0) === d.metadata.generation;
    if (!seen || !d.progress || d.progress.ready !== status.availableReplicas) Object.defineProperty(d, 'progress', { value: { at: t, ready: status.availableReplicas }, enumerable: false, configurable: true, writable: true });
    const last = was.conditions?.find((c) => c.type === 'Progressing');
    const condition = (reason, st) => (last?.reason === reason && last.status === st ? last : { type: 'Progressing', status: st, reason, message: reason === 'ProgressDeadlineExceeded' ? `ReplicaSet "${d.metadata.name}-${hash}" has timed out progressing.` : reason, lastUpdateTime: now(), lastTransitionTime: now() });
    const over = !complete && !d.spec.paused && t - d.progress.at > (d.spec.progressDeadlineSeconds ?? 600) * 1000;
    let progressing = complete ? condition('NewReplicaSetAvailable', 'True') : over ? condition('ProgressDeadlineExceeded', 'False') : condition('ReplicaSetUpdated', 'True');
    // The condition of the rollout before stands for a while after the new generation was seen.
    if (this.stale && last?.reason === 'ProgressDeadlineExceeded' && !complete) progressing = last;
    status.conditions.push(progressing, { type: 'Available', status: status.availableReplicas >= n ? 'True' : 'False' });
    if (failure) status.conditions.push({ type: 'ReplicaFailure', status: 'True', reason: 'FailedCreate', message: failure });
    if (JSON.stringify(was) !== JSON.stringify(status)) {
      d.status = status;
      if (!seen) d.metadata.annotations = { ...d.metadata.annotations, 'deployment.kubernetes.io/revision': String(Number(d.metadata.annotations?.['deployment.kubernetes.io/revision'] ?? 0) + 1) };
      this.put('deployments', d);
    }
  }

  makePod(d, hash, t) {
    const n = ++this.serial;
    const name = `${d.metadata.name}-${hash}-${n.toString(36).padStart(5, '0')}`;
    const pod = { metadata: { name, namespace: NS, uid: `uid-${n}`, labels: { ...d.spec.template.metadata.labels, 'pod-template-hash': hash }, annotations: { ...d.spec.template.metadata.annotations }, ownerReferences: [{ kind: 'ReplicaSet', name: `${d.metadata.name}-${hash}`, controller: true }] }, spec: clone(d.spec.template.spec), status: { phase: 'Pending' } };
    Object.defineProperty(pod, 'born', { value: t, enumerable: false });
    this.put('pods', pod, 'ADDED');
  }

  job(j, t) {
    if (j.status?.conditions) return;
    const end = (type, reason, message) => {
      j.status = { ...j.status, active: 0, conditions: [{ type, status: 'True', reason, message }] };
      this.put('jobs', j);
    };
    const pod = this.list('pods').find((p) => p.metadata.ownerReferences[0].uid === j.metadata.uid);
    if (!pod) {
      const n = ++this.serial;
      const made = { metadata: { name: `${j.metadata.name}-${n.toString(36).padStart(5, '0')}`, namespace: NS, uid: `uid-${n}`, labels: { ...j.spec.template.metadata?.labels }, ownerReferences: [{ kind: 'Job', name: j.metadata.name, uid: j.metadata.uid, controller: true }] }, spec: clone(j.spec.template.spec), status: { phase: 'Pending' } };
      Object.defineProperty(made, 'born', { value: t, enumerable: false });
      Object.defineProperty(made, 'command', { value: made.spec.containers[0].command.join(' '), enumerable: false });
      this.put('pods', made, 'ADDED');
      j.status = { active: 1, startTime: now() };
      Object.defineProperty(j, 'born', { value: t, enumerable: false });
      this.put('jobs', j);
    } else if (pod.status.phase === 'Succeeded') end('Complete');
    else if (pod.status.phase === 'Failed') end('Failed', 'BackoffLimitExceeded', 'Job has reached the specified backoff limit');
    else if (t - j.born > j.spec.activeDeadlineSeconds * 1000) {
      this.endPod(pod, t);
      end('Failed', 'DeadlineExceeded', 'Job was active longer than specified deadline');
    }
  }

  jobPod(p, t) {
    if (p.metadata.deletionTimestamp) {
      if (t >= p.ends) this.remove('pods', p.metadata.name);
      return;
    }
    const before = JSON.stringify(p.status);
    const missing = this.missing(p);
    const status = (state) => p.spec.containers.map((c) => ({ name: c.name, image: c.image, ready: false, state }));
    if (this.no_room) p.status.conditions = [{ type: 'PodScheduled', status: 'False', reason: 'Unschedulable', message: this.no_room }];
    else if (this.no_volume) p.status.containerStatuses = status({ waiting: { reason: 'ContainerCreating' } });
    else if (missing) p.status.containerStatuses = status({ waiting: { reason: 'CreateContainerConfigError', message: missing } });
    else if (p.status.phase === 'Pending') {
      this.seen.ran++;
      Object.defineProperty(p, 'began', { value: t, enumerable: false });
      p.status = { phase: 'Running', podIP: '127.0.0.1', conditions: [{ type: 'PodScheduled', status: 'True' }], containerStatuses: status({ running: {} }) };
    } else if (p.status.phase === 'Running' && t - p.began >= this.job_ms) {
      const bad = `${p.command} ${p.spec.containers[0].image}`.includes('fail');
      p.status = { ...p.status, phase: bad ? 'Failed' : 'Succeeded', containerStatuses: status({ terminated: { exitCode: bad ? 3 : 0, reason: bad ? 'Error' : 'Completed' } }) };
    }
    if (JSON.stringify(p.status) !== before) this.put('pods', p);
  }

  log(name, query) {
    const p = this.get('pods', name);
    if (p.status.phase === 'Pending') throw new ApiError(400, 'BadRequest', `container "${query.get('container')}" in pod "${name}" is waiting to start: ContainerCreating`);
    if (!p.spec.containers.some((c) => c.name === query.get('container'))) throw new ApiError(400, 'BadRequest', `container ${query.get('container')} is not valid for pod ${name}`);
    const lines = ['an early line', ...Array.from({ length: 30 }, (_, i) => `line ${i}`), `${p.command}\tsaid: ü`];
    return lines.slice(-Number(query.get('tailLines') ?? lines.length)).join('\n') + '\n';
  }

  endPod(p, t) {
    p.metadata.deletionTimestamp = now();
    Object.defineProperty(p, 'ends', { value: t + this.end_ms, enumerable: false });
    this.put('pods', p);
  }

  pod(p, t) {
    if (p.metadata.deletionTimestamp) {
      if (t >= p.ends) this.remove('pods', p.metadata.name);
      return;
    }
    const images = p.spec.containers.map((c) => c.image);
    const missing = this.missing(p);
    const age = t - p.born;
    const before = JSON.stringify(p.status);
    if (images.some((i) => i.includes('missing'))) {
      p.status.containerStatuses = p.spec.containers.map((c) => ({ name: c.name, image: c.image, imageID: '', ready: false, state: { waiting: { reason: 'ImagePullBackOff', message: `Back-off pulling image "${c.image}"` } } }));
    } else if (missing) {
      p.status.containerStatuses = p.spec.containers.map((c) => ({ name: c.name, image: c.image, imageID: '', ready: false, state: { waiting: { reason: 'CreateContainerConfigError', message: missing } } }));
    } else if (age >= this.ready_ms / 2) {
      const ready = age >= this.ready_ms && !images.some((i) => i.includes('sick')) && !p.sick;
      p.status.phase = 'Running';
      p.status.podIP = '127.0.0.1';
      p.status.containerStatuses = p.spec.containers.map((c) => ({ name: c.name, image: c.image, imageID: `docker.io/${c.image.replace(/@.*|:[^/:]*$/, '')}@${digestOf(c.image)}`, ready, state: { running: {} } }));
      p.status.conditions = [{ type: 'Ready', status: ready ? 'True' : 'False', message: ready ? undefined : 'containers with unready status: [agent]' }];
    }
    if (JSON.stringify(p.status) !== before) this.put('pods', p);
  }

  missing(p) {
    const names = [...p.spec.containers.flatMap((c) => (c.envFrom ?? []).map((e) => e.configMapRef?.name)), ...(p.spec.volumes ?? []).map((v) => v.configMap?.name)];
    const gone = names.find((n) => n && !this.objects.has(`configmaps/${n}`));
    return gone ? `configmap "${gone}" not found` : '';
  }

  slices() {
    for (const s of this.list('services')) {
      const selector = Object.entries(s.spec.selector ?? {}).map(([k, v]) => `${k}=${v}`).join(',');
      const pods = selector ? this.list('pods').filter((p) => p.status.podIP && selected(selector, p.metadata.labels)) : [];
      const endpoints = pods.map((p) => ({ addresses: [p.status.podIP], conditions: { ready: p.status.conditions[0].status === 'True' && !p.metadata.deletionTimestamp, terminating: !!p.metadata.deletionTimestamp }, targetRef: { kind: 'Pod', name: p.metadata.name } }));
      const name = `${s.metadata.name}-slice`;
      const was = this.objects.get(`endpointslices/${name}`);
      if (JSON.stringify(was?.endpoints) !== JSON.stringify(endpoints)) this.put('endpointslices', { metadata: { name, namespace: NS, labels: { 'kubernetes.io/service-name': s.metadata.name } }, endpoints }, was ? 'MODIFIED' : 'ADDED');
    }
  }

  route(r) {
    const g = r.metadata.generation;
    if (r.status?.parents?.[0]?.conditions[0].observedGeneration === g) return;
    const bad = r.spec.rules.flatMap((x) => x.backendRefs).find((b) => !this.objects.has(`services/${b.name}`));
    const c = (type, ok, message) => ({ type, status: ok ? 'True' : 'False', observedGeneration: g, reason: ok ? type : 'BackendNotFound', message });
    r.status = { parents: [{ parentRef: { name: 'public' }, controllerName: 'test/gateway', conditions: [c('Accepted', true, ''), c('ResolvedRefs', !bad, bad ? `Service ${bad.name} not found` : '')] }] };
    this.put('httproutes', r);
  }

  // ---- HTTP ----

  allow(verb, resource) {
    if (this.denied.has(`${verb} ${resource}`)) throw new ApiError(403, 'Forbidden', `${resource} is forbidden: User "system:serviceaccount:agents:redoubt-rollback" cannot ${verb} resource "${resource}" in API group "" in the namespace "${NS}"`);
  }

  watch(req, res, resource, query) {
    const name = query.get('fieldSelector')?.replace(/^metadata\.name=/, '');
    const from = Number(query.get('resourceVersion'));
    const log = this.events.get(resource) ?? [];
    res.writeHead(200, { 'content-type': 'application/json' });
    const write = (type, object) => res.write(`${JSON.stringify({ type, object })}\n`);
    if (this.gone || (log.length === EVENTS_KEPT && from < log[0].rv - 1)) {
      this.gone = false;
      this.seen.gone++;
      write('ERROR', { kind: 'Status', code: 410, reason: 'Expired', message: `too old resource version: ${from}` });
      return res.end();
    }
    const w = { resource, send: (e) => (!name || e.object.metadata.name === name) && write(e.type, e.object), end: () => res.end() };
    for (const e of log) if (e.rv > from) w.send(e);
    this.watchers.add(w);
    // In the middle of an event, at times.
    const end = () => {
      if (Math.random() < 0.5) res.write('{"type":"MODIFIED","object":{"metadata":');
      this.seen.cuts++;
      req.socket.destroy();
    };
    const cut = this.cut ? setTimeout(end, Math.random() * this.cut) : setTimeout(() => res.end(), Number(query.get('timeoutSeconds') ?? 30) * 1000);
    req.on('close', () => (clearTimeout(cut), this.watchers.delete(w)));
  }

  patch(resource, name, type, body, dry) {
    const o = this.get(resource, name);
    this.allow('patch', resource);
    if (resource === 'deployments' && this.conflicts > 0 && !dry) {
      this.conflicts--;
      this.seen.conflicts++;
      this.put(resource, o);
    }
    const next = type.includes('json-patch') ? jsonPatch(o, body) : mergePatch(o, body);
    if (next.metadata.resourceVersion !== o.metadata.resourceVersion) throw new ApiError(409, 'Conflict', `Operation cannot be fulfilled on ${resource} "${name}": the object has been modified`);
    next.status = o.status;
    this.store(resource, next, o);
    if (dry) return next;
    for (const k of ['born', 'ends', 'progress', 'sick']) if (o[k] !== undefined) Object.defineProperty(next, k, { value: o[k], enumerable: false, configurable: true, writable: true });
    return this.put(resource, next);
  }

  answer(req, res, url, body) {
    const parts = url.pathname.match(/^\/(?:api|apis)\/(?:([a-z0-9.]+)\/)?(v1)(?:\/namespaces\/([^/]+))?\/([a-z]+)(?:\/([^/]+)(?:\/(log))?)?$/);
    if (!parts) return this.discover(url.pathname);
    const [, , , ns, resource, name, below] = parts;
    const dry = url.searchParams.get('dryRun') === 'All';
    if (dry) this.seen.dry++;
    if (resource === 'selfsubjectaccessreviews') {
      const a = body.spec.resourceAttributes;
      return { kind: 'SelfSubjectAccessReview', spec: body.spec, status: { allowed: !this.denied.has(`${a.verb} ${a.resource}${a.subresource ? `/${a.subresource}` : ''}`) } };
    }
    if (ns !== NS) throw new ApiError(404, 'NotFound', `namespace "${ns}" not found`);
    if (req.method === 'GET' && !name) {
      if (url.searchParams.has('watch')) return this.allow('watch', resource), this.watch(req, res, resource, url.searchParams), undefined;
      this.allow('list', resource);
      const items = this.list(resource).filter((o) => selected(url.searchParams.get('labelSelector') ?? '', o.metadata.labels));
      return { kind: 'List', metadata: { resourceVersion: String(this.rv) }, items };
    }
    if (below) return this.allow('get', `${resource}/${below}`), this.log(name, url.searchParams);
    if (req.method === 'GET') {
      this.allow('get', resource);
      const o = this.get(resource, name);
      if (resource !== 'secrets') return o;
      if (req.headers.accept?.includes('PartialObjectMetadata')) return { kind: 'PartialObjectMetadata', metadata: o.metadata };
      this.seen.secrets_read++;
      return o;
    }
    if (req.method === 'POST') {
      this.allow('create', resource);
      if (this.objects.has(`${resource}/${body.metadata.name}`)) throw new ApiError(409, 'AlreadyExists', `${resource} "${body.metadata.name}" already exists`);
      return dry ? body : this.apply(resource, body);
    }
    if (req.method === 'DELETE') return this.allow('delete', resource), this.remove(resource, name, url.searchParams.get('propagationPolicy'));
    if (req.method === 'PATCH') return this.patch(resource, name, req.headers['content-type'] ?? '', body, dry);
    throw new ApiError(405, 'MethodNotAllowed', `${req.method} is not supported`);
  }

  // As much as kubectl needs to know what a manifest's kinds are called.
  discover(path) {
    if (path === '/version') return { major: '1', minor: '29', gitVersion: 'v1.29.0' };
    if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] };
    if (path === '/apis') {
      const groups = Object.keys(GROUPS).filter((g) => g.includes('/')).map((g) => ({ name: g.split('/')[0], versions: [{ groupVersion: g, version: 'v1' }], preferredVersion: { groupVersion: g, version: 'v1' } }));
      return { kind: 'APIGroupList', apiVersion: 'v1', groups };
    }
    const group = path.replace(/^\/apis?\//, '');
    if (!GROUPS[group]) throw new ApiError(404, 'NotFound', `the server could not find the requested resource: ${path}`);
    const resources = Object.entries(GROUPS[group]).map(([name, kind]) => ({ name, kind, namespaced: true, singularName: kind.toLowerCase(), verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'] }));
    return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: group, resources };
  }

  control(body) {
    if (body.reset) this.reset();
    for (const [resource, objects] of Object.entries(body.apply ?? {})) for (const o of objects) this.apply(resource, o);
    for (const [resource, names] of Object.entries(body.remove ?? {})) for (const n of names) this.remove(resource, n);
    for (const k of ['token', 'conflicts', 'cut', 'ready_ms', 'stale', 'gone', 'gateways', 'faults', 'job_ms', 'no_room', 'no_volume', 'end_ms']) if (k in body) this[k] = body[k];
    if ('quota' in body) this.quota = body.quota ?? Infinity;
    if ('denied' in body) this.denied = new Set(body.denied);
    for (const n of body.sick ?? []) Object.defineProperty(this.get('pods', n), 'sick', { value: true, enumerable: false });
    return { objects: Object.fromEntries(this.objects), seen: this.seen, rv: this.rv };
  }

  fault(req, url) {
    const f = this.faults.find((x) => x.times > 0 && (!x.method || x.method === req.method) && (!x.match || url.pathname.includes(x.match)));
    if (!f) return;
    f.times--;
    if (f.status === 429) this.seen.throttled++;
    if (!f.status) return req.socket.destroy();
    throw new ApiError(f.status, 'Fault', 'asked for by the test', f.retryAfter === undefined ? {} : { 'retry-after': String(f.retryAfter) });
  }

  async handle(req, res) {
    const url = new URL(req.url, 'http://x');
    const chunks = [];
    for await (const c of req) chunks.push(c);
    const send = (code, object, headers = {}) => {
      if (res.writableEnded || res.headersSent || res.destroyed) return;
      const text = typeof object === 'string';
      res.writeHead(code, { 'content-type': text ? 'text/plain' : 'application/json', ...headers });
      res.end(text ? object : JSON.stringify(object));
    };
    try {
      const body = chunks.length ? JSON.parse(Buffer.concat(chunks)) : {};
      if (url.pathname === '/_test') return send(200, this.control(body));
      if (this.seen.requests.length < 5000) this.seen.requests.push(`${req.method} ${url.pathname}${url.search}`);
      // What there is may be asked by anybody.
      if (/^\/(version|api|apis)(\/[a-z0-9.]+){0,2}$/.test(url.pathname)) return send(200, this.discover(url.pathname));
      if (req.headers.authorization !== `Bearer ${this.token}`) {
        this.seen.unauthorized++;
        throw new ApiError(401, 'Unauthorized', 'Unauthorized');
      }
      if (this.fault(req, url) || req.socket.destroyed) return;
      const answer = this.answer(req, res, url, body);
      if (answer !== undefined) send(req.method === 'POST' ? 201 : 200, answer);
    } catch (e) {
      if (!(e instanceof ApiError)) process.stderr.write(`${e.stack}\n`);
      send(e.code ?? 500, { kind: 'Status', apiVersion: 'v1', status: 'Failure', message: e.message, reason: e.reason ?? 'InternalError', code: e.code ?? 500 }, e.headers);
    }
  }

  listen(port, tls) {
    const on = (req, res) => void this.handle(req, res);
    this.server = tls ? https.createServer(tls, on) : http.createServer(on);
    return new Promise((resolve) => this.server.listen(port, '127.0.0.1', () => resolve(this.server.address().port)));
  }
}

// ---- objects that tests start from ----

export const deployment = (name, image, replicas, { labels = {}, template = {}, ...more } = {}) => ({
  metadata: { name, labels: { app: 'agent' } },
  spec: {
    replicas,
    selector: { matchLabels: { app: 'agent', track: name } },
    template: { metadata: { labels: { app: 'agent', track: name, ...labels } }, spec: { containers: [{ name: 'agent', image, ports: [{ containerPort: 8080 }], ...template }], ...more } },
  },
});

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const [port, cert, key] = process.argv.slice(2);
  const api = new KubeApi();
  process.on('SIGTERM', () => process.exit(0));
  await api.listen(Number(port), cert ? { cert: readFileSync(cert), key: readFileSync(key) } : undefined);
}

// What the page shows: the items of the server, and what its reader has chosen.
let redraw = () => {};
let waiting = false;

export const state = {
  items: new Map(), // by key, as internal/ui/page makes them
  connected: null, // not yet
  query: '',
  wrongOnly: false,
  chosen: location.hash.slice(1), // key of a Service
  sort: 'name', // of Services: see orders
  opened: new Map(), // namespaces that were opened or closed by hand
  rows: 200, // Services that are listed at most
};

export function set(change) {
  Object.assign(state, change);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    redraw();
  });
}

export function start(draw) {
  redraw = draw;
  addEventListener('hashchange', () => set({chosen: decodeURI(location.hash.slice(1))}));
  connect();
  set({});
}

// choose a Service, or none. It is in the address, so that going back works.
export function choose(key) {
  location.hash = key;
  if (!key) history.replaceState(null, '', location.pathname);
  set({chosen: key});
}

function connect() {
  let coming = new Map();
  const source = new EventSource('events');
  source.onmessage = (event) => {
    const message = JSON.parse(event.data);
    if (message.reset) coming = new Map();
    for (const [key, value] of Object.entries(message.set ?? {})) coming.set(key, value);
    for (const key of message.gone ?? []) coming.delete(key);
    if (!message.more) set({items: new Map(coming), connected: true});
  };
  source.onerror = () => {
    set({connected: false});
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 3000); // else it tries by itself
  };
}

// look sorts the items by kind, once for each change.
let seen, found;
export function look() {
  if (seen === state.items) return found;
  seen = state.items;
  found = {cluster: {}, balancers: [], pools: [], policies: [], nodes: [], services: [], having: new Map(),
    traffic: new Map(), hosts: new Map(), silence: ''};
  for (const [key, item] of seen) {
    const kind = key.split('/', 1)[0];
    if (kind === 'cluster' || kind === 'silence') {
      found[kind] = item;
      continue;
    }
    if (kind === 'traffic') found.traffic.set(key.replace('traffic', 'service'), item);
    else if (kind === 'host') found.hosts.set(key, item);
    else (found[kind + 's'] ?? found.policies).push(item);
    item.key = key;
  }
  for (const list of [found.balancers, found.pools, found.nodes, found.services]) {
    list.sort((a, b) => (a.key < b.key ? -1 : 1));
  }
  for (const service of found.services) {
    for (const {ip} of service.addresses) found.having.set(ip, [...(found.having.get(ip) ?? []), service]);
  }
  return found;
}

const texts = new WeakMap();

// text of a Service in which a search looks.
function text(service) {
  if (!texts.has(service)) {
    const words = [`${service.namespace}/${service.name}`, ...service.balancers, ...service.addresses.map((a) => a.ip),
      ...service.ports.map((p) => `${p.name} ${p.nodePort ?? ''}`), ...(service.nodes ?? []), ...(service.problems ?? [])];
    texts.set(service, words.join('\n').toLowerCase());
  }
  return texts.get(service);
}

// searched are the Services that the reader wants to see, in the order in which they do.
export function searched() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  const {services, traffic} = look();
  const shown = services.filter((s) => (!state.wrongOnly || s.health === 'bad') && words.every((w) => text(s).includes(w)));
  if (state.sort === 'name') return shown;
  const most = new Map(shown.map((s) => [s, total(traffic.get(s.key), state.sort) ?? -1]));
  return shown.sort((a, b) => most.get(b) - most.get(a)); // by name where it is the same
}

// orders of Services beside that by name: what comes first has most of it.
export const orders = {
  open: 'connections', made: 'new connections', refused: 'refused', failed: 'failed', in: 'bytes in', out: 'bytes out', down: 'nodes down',
};

// total of what all hosts tell of a Service; undefined: none of them can tell.
export function total(traffic, what) {
  let sum;
  for (const host of traffic?.hosts ?? []) {
    if (host[what] === undefined) continue;
    sum = what === 'down' ? Math.max(sum ?? 0, host.down) : (sum ?? 0) + host[what]; // hosts have the same nodes
  }
  return sum;
}

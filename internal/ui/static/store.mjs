// What the page shows: the items of the server, and what its reader has chosen.
let redraw = () => {};
let waiting = false;

export const state = {
  items: new Map(), // by key, as internal/ui/page makes them
  connected: null, // not yet
  query: '',
  wrongOnly: false,
  chosen: location.hash.slice(1), // key of a Service
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
  found = {cluster: {}, balancers: [], pools: [], policies: [], nodes: [], services: [], having: new Map()};
  for (const [key, item] of seen) {
    const kind = key.split('/', 1)[0];
    if (kind === 'cluster') found.cluster = item;
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

// searched are the Services that the reader wants to see.
export function searched() {
  const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
  return look().services.filter((s) => (!state.wrongOnly || s.health === 'bad') && words.every((w) => text(s).includes(w)));
}

// Services → addresses → hosts → nodes, in four columns of rows of one height, with lines
// between them.
import {h} from './preact.mjs';
import {health, service} from './parts.mjs';

const most = 24; // rows of a column
const rowHeight = 28;
const published = ['good', 'published'];
const unpublished = ['middle', 'not published yet'];

export function topology(b, found, shown, chosen) {
  const all = (chosen?.balancers?.includes(b.name) ? [chosen] : shown).filter((s) => s.balancers.includes(b.name));
  const services = all.slice(0, most);
  const told = new Map(); // address: whether it is published
  for (const s of services) for (const a of s.addresses) told.set(a.ip, told.get(a.ip) || a.told);
  const addresses = [...told.keys()].slice(0, most);
  const targets = found.nodes.filter((n) => services.some((s) => (s.allNodes ? n.balancers.includes(b.name) : s.nodes?.includes(n.name))));
  const nodes = targets.slice(0, most);

  const leaves = (n) => services.some((s) => s.draining?.includes(n.name));
  const down = new Set(); // host and node, as that host tells of a Service here
  for (const s of services) {
    for (const t of found.traffic.get(s.key)?.hosts ?? []) {
      if (t.balancer === b.name) for (const n of t.named ?? []) down.add(`${t.host} ${n.node}`);
    }
  }

  const columns = [
    column('Services', services.map((s) => [s.key, service(s), s.health]), all.length),
    column('Addresses', addresses.map((ip) => [ip, h('code', null, ip), ...(told.get(ip) ? published : unpublished)]), told.size),
    column('Hosts', b.hosts.map((x) => [x.name, x.name, x.health, x.state]), b.hosts.length),
    column('Nodes', nodes.map((n) => [n.name, n.name, n.health, n.message]), targets.length),
  ];
  const rows = Math.max(services.length, addresses.length, b.hosts.length, nodes.length) + 1;
  const lines = [
    services.flatMap((s, i) => s.addresses.map((a) => [i, addresses.indexOf(a.ip), a.told ? 'good' : 'middle'])),
    addresses.flatMap((ip, i) => b.hosts.map((x, j) => [i, j, told.get(ip) ? x.health : 'middle'])),
    b.hosts.flatMap((x, i) => nodes.map((n, j) => [i, j,
      down.has(`${x.name} ${n.name}`) ? 'bad' : worse(x.health, leaves(n) ? worse(n.health, 'middle') : n.health)])),
  ];
  return h('div', {class: 'topology'}, columns.flatMap((c, i) => (i ? [gutter(lines[i - 1], rows, i), c] : [c])));
}

const order = ['good', 'unknown', 'middle', 'bad'];
const worse = (a, b) => order[Math.max(order.indexOf(a), order.indexOf(b))];

function column(title, rows, count) {
  return h('div', {key: title, class: 'column', 'data-column': title},
    h('h3', null, `${title} `, h('small', null, count)),
    h('ul', null, rows.map(([key, what, value, meaning]) => h('li', {key}, health(value, meaning), what)),
      count > rows.length ? h('li', {class: 'more'}, `${count - rows.length} more; search to see them`) : null));
}

function gutter(lines, rows, key) {
  const y = (i) => (i + 0.5) * rowHeight;
  const height = rows * rowHeight;
  return h('svg', {key, class: 'lines', 'aria-hidden': 'true', viewBox: `0 0 100 ${height}`, height, preserveAspectRatio: 'none'},
    lines.filter(([from, to]) => to >= 0).map(([from, to, value]) => h('path', {key: `${from} ${to}`, class: value,
      d: `M0 ${y(from)}C50 ${y(from)} 50 ${y(to)} 100 ${y(to)}`})));
}

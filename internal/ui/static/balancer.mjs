import {h} from './preact.mjs';
import {flow, health, number, plural, problems, rate, service, time} from './parts.mjs';
import {topology} from './topology.mjs';

export function balancer(b, found, shown, chosen) {
  const id = `balancer-${b.name}`;
  const own = found.services.filter((s) => s.balancers.includes(b.name));
  return h('section', {key: b.key, class: 'balancer', 'aria-labelledby': id},
    h('h2', {id}, `Balancer ${b.name}`),
    h('p', {class: 'facts'},
      [b.engine, b.mode, `class ${b.class}`, b.default ? 'default' : '', plural(own.length, 'Service')].filter(Boolean).join(' · ')),
    problems(b.problems),
    h('details', {open: true}, h('summary', null, 'Who reaches what'), topology(b, found, shown, chosen)),
    h('details', {open: true}, h('summary', null, 'Hosts'), hosts(b, found)),
    h('details', {open: true}, h('summary', null, 'Addresses'),
      found.pools.filter((p) => p.balancer === b.name).map((p) => pool(p, found))));
}

function hosts(b, found) {
  const of = (host) => found.hosts.get(`host/${b.name}/${host.name}`) ?? {};
  return h('table', null,
    h('thead', null, h('tr', null,
      ['Host', 'State', 'Program', 'Proved', 'Since', 'Connections', 'Traffic', ''].map((t) => h('th', {scope: 'col'}, t)))),
    h('tbody', null, b.hosts.map((host) => h('tr', {key: host.name, 'data-host': host.name},
      h('th', {scope: 'row'}, host.name, h('small', null, ` ${host.where}`)),
      h('td', {class: host.health}, health(host.health, ''), host.state, host.draining ? ', drained' : '', host.active ? ', has the addresses' : ''),
      h('td', null, host.version),
      h('td', null, h('code', null, host.digest), host.desired ? h('span', null, ' should be ', h('code', null, host.desired)) : ''),
      h('td', null, time(host.applied)),
      h('td', null, number(of(host).open), ' open, ', rate(of(host).made), ' new'),
      h('td', null, flow(of(host).in), ' in, ', flow(of(host).out), ' out'),
      h('td', null, h('span', {class: host.health === 'bad' ? 'bad' : ''}, host.message),
        of(host).silent ? h('div', {class: 'more'}, of(host).silent) : null,
        (host.notes ?? []).map((n) => h('p', {key: n.reason, class: 'middle'}, n.message)))))));
}

// pool is a map: a cell for each address, or for each block of them.
function pool(p, found) {
  const usage = p.usage.map((u) => `${u.family}: ${u.assigned} of ${u.capacity} used`).join(', ');
  return h('section', {key: p.key, class: 'pool', 'data-pool': p.name},
    h('h3', null, p.name, h('small', null, ` ${usage}`)),
    problems(p.problems),
    ['IPv4', 'IPv6'].map((family) => map(p, family, p.blocks.filter((b) => b.first.includes(':') === (family === 'IPv6')), found)),
    p.used ? h('details', null, h('summary', null, 'Who has which address'),
      h('ul', {class: 'holders'}, p.used.map((ip) => h('li', {key: ip}, h('code', null, ip), ' ',
        (found.having.get(ip) ?? []).map((s) => [service(s), ' '])))),
      p.more ? h('p', null, `${p.more} are not shown`) : null) : null);
}

function map(p, family, blocks, found) {
  const used = blocks.reduce((sum, b) => sum + (b.used ?? 0), 0);
  if (!blocks.length) return null;
  const label = `Map of AddressPool ${p.name}, ${family}: in use are ${used}`;
  return h('div', {key: family, class: 'map', role: 'img', 'aria-label': label}, blocks.map((b) => cell(b, found)));
}

function cell(b, found) {
  const holders = b.last ? [] : (found.having.get(b.first) ?? []).map((s) => `${s.namespace}/${s.name}`);
  const what = b.last ? `${b.first}–${b.last}: ${b.used ?? 0} used` : `${b.first}: ${holders.join(', ') || (b.used ? 'used' : 'free')}`;
  const kind = !b.used ? 'free' : b.last ? 'some' : 'used';
  return h('span', {key: b.first, class: `cell ${kind}`, title: what});
}

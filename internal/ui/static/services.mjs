import {h} from './preact.mjs';
import {orders, set, state, total} from './store.mjs';
import {flow, health, number, plural, problems, service} from './parts.mjs';

const few = 50; // Services of which all are shown without being asked

// services are a table for each namespace, or one of all where those with most of something
// come first. What is closed costs the browser nothing.
export function services(shown, found) {
  const flat = state.sort !== 'name';
  const byNamespace = flat ? new Map([['all namespaces', shown]]) : Map.groupBy(shown, (s) => s.namespace);
  const open = (name) => state.opened.get(name) ?? (flat || shown.length <= few || state.query !== '' || state.wrongOnly);
  let room = state.rows;
  return h('section', {id: 'services', 'aria-labelledby': 'services-title'},
    h('h2', {id: 'services-title', tabIndex: -1}, 'Services ', h('small', {role: 'status'}, `${shown.length} of ${found.services.length}`)),
    h('p', null, h('label', {for: 'sort'}, 'Sorted by '),
      h('select', {id: 'sort', value: state.sort, onChange: (e) => set({sort: e.target.value})},
        Object.entries({name: 'name', ...orders}).map(([key, words]) => h('option', {key, value: key}, words))),
      found.silence ? h('small', {id: 'silence'}, ` There is no traffic to be shown: ${found.silence}`) : null),
    [...byNamespace].map(([name, list]) => {
      const rows = open(name) ? list.slice(0, Math.max(0, room)) : [];
      room -= rows.length;
      return namespace(name, list, rows, found, open(name));
    }),
    room <= 0 ? h('button', {type: 'button', onClick: () => set({rows: state.rows + 500})}, 'Show more') : null);
}

function namespace(name, list, rows, found, open) {
  const bad = list.filter((s) => s.health === 'bad').length;
  const toggle = (e) => {
    if (e.currentTarget.open !== open) set({opened: new Map(state.opened).set(name, e.currentTarget.open)});
  };
  return h('details', {key: name, open, onToggle: toggle},
    h('summary', null, name, ' ', h('small', null, plural(list.length, 'Service')),
      bad ? h('small', {class: 'bad'}, `, ${bad} wrong`) : null),
    open ? h('table', null,
      h('thead', null, h('tr', null,
        ['Service', 'Addresses', 'Ports', 'Endpoints', 'Connections', 'In', 'Out', 'State'].map((t) => h('th', {scope: 'col'}, t)))),
      h('tbody', null, rows.map((s) => row(s, found.traffic.get(s.key), state.sort === 'name' ? s.name : `${s.namespace}/${s.name}`))),
      rows.length < list.length ? h('caption', null, `${list.length - rows.length} of them are not shown`) : null) : null);
}

function address({ip, told}) {
  return h('span', {key: ip, class: told ? 'good' : 'middle'}, h('code', null, ip), told ? ' ' : ' (not yet) ');
}

// row of a Service; the same one as long as nothing has changed, which is not looked at again.
const rowsOf = new WeakMap();
function row(s, traffic, label) {
  let was = rowsOf.get(s);
  if (!was || was.traffic !== traffic || was.label !== label) rowsOf.set(s, was = {traffic, label, row: make(s, traffic, label)});
  return was.row;
}

function make(s, traffic, label) {
  const down = total(traffic, 'down');
  return h('tr', {key: s.key, 'data-service': s.key},
    h('th', {scope: 'row'}, service(s, label)),
    h('td', null, s.addresses.length ? s.addresses.map(address) : h('span', {class: 'middle'}, 'none')),
    h('td', null, s.ports.map((p) => h('span', {key: p.name, class: p.error ? 'bad' : ''}, p.name, p.error ? ` ${p.error}` : '', ' '))),
    h('td', null, s.endpoints),
    h('td', null, number(total(traffic, 'open'))),
    h('td', null, flow(total(traffic, 'in'))),
    h('td', null, flow(total(traffic, 'out'))),
    h('td', {class: s.health}, s.problems ? problems(s.problems)
      : [health(s.health, ''), s.health === 'good' ? 'in order' : 'on its way'],
    down ? h('div', {class: 'bad'}, `${plural(down, 'node')} down`) : null));
}

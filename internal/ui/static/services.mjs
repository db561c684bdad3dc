import {h} from './preact.mjs';
import {set, state} from './store.mjs';
import {health, plural, problems, service} from './parts.mjs';

const few = 50; // Services of which all are shown without being asked

// services are a table for each namespace. What is closed costs the browser nothing.
export function services(shown, found) {
  const byNamespace = Map.groupBy(shown, (s) => s.namespace);
  const open = (name) => state.opened.get(name) ?? (shown.length <= few || state.query !== '' || state.wrongOnly);
  let room = state.rows;
  return h('section', {id: 'services', 'aria-labelledby': 'services-title'},
    h('h2', {id: 'services-title', tabIndex: -1}, 'Services ', h('small', {role: 'status'}, `${shown.length} of ${found.services.length}`)),
    [...byNamespace].map(([name, list]) => {
      const rows = open(name) ? list.slice(0, Math.max(0, room)) : [];
      room -= rows.length;
      return namespace(name, list, rows, open(name));
    }),
    room <= 0 ? h('button', {type: 'button', onClick: () => set({rows: state.rows + 500})}, 'Show more') : null);
}

function namespace(name, list, rows, open) {
  const bad = list.filter((s) => s.health === 'bad').length;
  const toggle = (e) => {
    if (e.currentTarget.open !== open) set({opened: new Map(state.opened).set(name, e.currentTarget.open)});
  };
  return h('details', {key: name, open, onToggle: toggle},
    h('summary', null, name, ' ', h('small', null, plural(list.length, 'Service')),
      bad ? h('small', {class: 'bad'}, `, ${bad} wrong`) : null),
    open ? h('table', null,
      h('thead', null, h('tr', null, ['Service', 'Addresses', 'Ports', 'Endpoints', 'State'].map((t) => h('th', {scope: 'col'}, t)))),
      h('tbody', null, rows.map(row)),
      rows.length < list.length ? h('caption', null, `${list.length - rows.length} of them are not shown`) : null) : null);
}

function address({ip, told}) {
  return h('span', {key: ip, class: told ? 'good' : 'middle'}, h('code', null, ip), told ? ' ' : ' (not yet) ');
}

// row of a Service; the same one as long as nothing has changed, which is not looked at again.
const rowsOf = new WeakMap();
function row(s) {
  if (!rowsOf.has(s)) {
    rowsOf.set(s, h('tr', {key: s.key, 'data-service': s.key},
      h('th', {scope: 'row'}, service(s, s.name)),
      h('td', null, s.addresses.length ? s.addresses.map(address) : h('span', {class: 'middle'}, 'none')),
      h('td', null, s.ports.map((p) => h('span', {key: p.name, class: p.error ? 'bad' : ''}, p.name, p.error ? ` ${p.error}` : '', ' '))),
      h('td', null, s.endpoints),
      h('td', {class: s.health}, s.problems ? problems(s.problems)
        : [health(s.health, ''), s.health === 'good' ? 'in order' : 'on its way'])));
  }
  return rowsOf.get(s);
}

// What the hosts tell of one Service: which nodes are up, and its traffic.
import {h} from './preact.mjs';
import {flow, health, nodes, number, rate, time} from './parts.mjs';

export function traffic(s, found) {
  const hosts = found.traffic.get(s.key)?.hosts;
  return h('section', {id: 'traffic', 'aria-labelledby': 'traffic-title'},
    h('h3', {id: 'traffic-title'}, 'Health and traffic'),
    s.backends ? h('p', {class: s.backends.health === 'bad' ? 'bad' : ''}, health(s.backends.health, ''),
      h('b', null, s.backends.reason), ' since ', time(s.backends.at), ': ', s.backends.text) : null,
    hosts ? h('table', null,
      h('thead', null, h('tr', null, ['Host', 'Nodes up', 'Connections', 'In', 'Out'].map((t) => h('th', {scope: 'col'}, t)))),
      h('tbody', null, hosts.map(row))) : h('p', {class: 'more'}, found.silence || 'No host tells of its traffic.'));
}

function row(t) {
  return h('tr', {key: `${t.balancer} ${t.host}`, 'data-traffic': t.host},
    h('th', {scope: 'row'}, t.host),
    h('td', null, nodes(t)),
    h('td', null, number(t.open), ' open', h('br'), rate(t.made), ' new',
      t.refused ? h('div', {class: 'bad'}, rate(t.refused), ' refused') : null,
      t.failed ? h('div', {class: 'bad'}, rate(t.failed), ' failed') : null),
    h('td', null, flow(t.in)),
    h('td', null, flow(t.out)));
}

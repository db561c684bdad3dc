import {h} from './preact.mjs';
import {choose} from './store.mjs';
import {health, plural, problems, time} from './parts.mjs';
import {traffic} from './traffic.mjs';

// story of one Service: what it has, and what happened to it, the newest first.
export function story(s, found) {
  return h('aside', {key: s.key, 'aria-labelledby': 'story-title', id: 'story'},
    h('button', {type: 'button', class: 'close', onClick: () => choose('')}, 'Close'),
    h('h2', {id: 'story-title', tabIndex: -1, ref: shown}, `${s.namespace}/${s.name}`),
    problems(s.problems),
    h('dl', null,
      fact('Balancer', s.balancers.join(', ')),
      fact('Addresses', s.addresses.map((a) => a.ip + (a.told ? '' : ' (not published yet)')).join(', ') || 'none'),
      fact('Ports', s.ports.map((p) => `${p.name}${p.nodePort ? ` → ${p.nodePort}` : ''}${p.error ? `: ${p.error}` : ''}`).join(', ')),
      fact('Nodes', nodes(s, found)),
      fact('Endpoints', `${s.endpoints} ready`),
      s.more ? fact('Not shown', s.more) : null),
    traffic(s, found),
    h('h3', null, 'Its story'),
    h('ol', {class: 'timeline'}, (s.story ?? []).map((m, i) => h('li', {key: `${m.at} ${m.source} ${m.reason} ${i}`, class: m.health},
      h('div', null, health(m.health, ''), time(m.at), ' ', h('b', null, m.reason), ' ',
        h('small', null, m.source, m.count ? `, ${m.count} times` : '')),
      h('div', null, m.text)))),
    s.story ? null : h('p', null, 'Nothing was told of it yet. Events are kept for an hour.'));
}

// shown moves the focus to a story that was opened, for who hears the page.
let last;
function shown(title) {
  if (title && last !== title) title.focus({preventScroll: true});
  last = title;
}

function nodes(s, found) {
  if (s.pods) return 'none: the hosts send to its pods';
  const drains = (n) => (s.draining?.includes(n) ? `${n} (drains)` : n);
  if (!s.allNodes) return s.nodes?.map(drains).join(', ') || 'none';
  const able = found.nodes.filter((n) => n.balancers.some((b) => s.balancers.includes(b)));
  const leaving = able.filter((n) => n.draining?.some((b) => s.balancers.includes(b)));
  const words = leaving.length ? `; of these drain ${leaving.map((n) => n.name).join(', ')}` : '';
  return `all ${plural(able.length, 'node')} that may carry traffic${words}`;
}

const fact = (name, text) => [h('dt', null, name), h('dd', null, text)];

import {h, render} from './preact.mjs';
import {choose, look, searched, set, start, state} from './store.mjs';
import {balancer} from './balancer.mjs';
import {services} from './services.mjs';
import {story} from './story.mjs';
import {health, plural, problems, service} from './parts.mjs';

function connection({cluster}) {
  if (state.connected === null) return ['middle', 'connecting'];
  if (!state.connected) return ['bad', 'not connected to external-lb: what is shown may be old'];
  if (cluster.problem) return ['bad', `what is shown may be old: ${cluster.problem}`];
  if (!cluster.loaded) return ['middle', 'reading the cluster'];
  return ['good', `follows ${cluster.server}`];
}

function header(found) {
  const [value, words] = connection(found);
  return h('header', null,
    h('h1', null, 'external-lb'),
    h('p', {role: 'status', id: 'connection', class: value}, health(value, ''), words),
    h('form', {role: 'search', onSubmit: (e) => e.preventDefault()},
      h('label', {for: 'search'}, 'Search'),
      h('input', {id: 'search', type: 'search', value: state.query, placeholder: 'name, address, port, words (press /)',
        onInput: (e) => set({query: e.target.value})}),
      h('label', null, h('input', {id: 'wrong-only', type: 'checkbox', checked: state.wrongOnly,
        onChange: (e) => set({wrongOnly: e.target.checked})}), ' only what is wrong')));
}

// wrong is what is wrong anywhere, in the words of the conditions.
function wrong(found) {
  const list = [];
  for (const b of found.balancers) {
    for (const words of b.problems ?? []) list.push([`Balancer ${b.name}`, words]);
    for (const host of b.hosts) {
      if (host.health === 'bad') list.push([`Host ${host.name} of Balancer ${b.name}`, `${host.state}: ${host.message ?? ''}`]);
    }
  }
  for (const pool of found.pools) for (const words of pool.problems ?? []) list.push([`AddressPool ${pool.name}`, words]);
  for (const p of found.policies) for (const words of p.problems ?? []) list.push([`UpstreamPolicy ${p.namespace}/${p.name}`, words]);
  for (const node of found.nodes) if (node.health === 'bad') list.push([`Node ${node.name}`, node.message]);
  const bad = found.services.filter((s) => s.health === 'bad');
  for (const s of bad.slice(0, 20)) list.push([service(s, `Service ${s.namespace}/${s.name}`), s.problems.join('; ')]);
  if (bad.length > 20) list.push([plural(bad.length - 20, 'more Service'), 'choose "only what is wrong" to see all']);
  return h('section', {id: 'wrong', 'aria-labelledby': 'wrong-title'},
    h('h2', {id: 'wrong-title'}, 'What is wrong'),
    h('p', {role: 'status', class: 'unseen'}, found.cluster.loaded ? plural(list.length, 'problem') : ''),
    list.length ? h('ul', {class: 'problems'}, list.map(([who, words], i) => h('li', {key: i}, h('b', null, who), ' ', words)))
      : h('p', null, found.cluster.loaded ? 'Nothing that the API server knows of.' : ''));
}

function page() {
  const found = look();
  const shown = searched();
  const chosen = state.chosen.startsWith('service/') ? state.items.get(state.chosen) : undefined;
  return [
    h('a', {class: 'skip', href: '#services', onClick: (e) => jump(e, 'services-title')}, 'Skip to the Services'),
    header(found),
    h('main', {class: chosen ? 'beside' : ''},
      h('div', null,
        wrong(found),
        found.cluster.loaded && !found.balancers.length ? h('p', null, 'There is no Balancer yet; config/samples has one.') : null,
        found.balancers.map((b) => balancer(b, found, shown, chosen)),
        services(shown, found)),
      chosen ? story(chosen, found) : null),
  ];
}

// jump goes to a heading without a place in the address, which is that of a Service.
function jump(event, id) {
  event.preventDefault();
  document.getElementById(id)?.focus();
}

addEventListener('keydown', (e) => {
  if (e.key === '/' && !e.target.closest('input')) {
    e.preventDefault();
    document.getElementById('search').focus();
  }
  if (e.key === 'Escape' && state.chosen) {
    const key = state.chosen;
    choose('');
    document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
  }
});

const root = document.body.appendChild(document.createElement('div'));
start(() => render(h('div', null, page()), root));

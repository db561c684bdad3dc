// Parts that several sections have.
import {h} from './preact.mjs';
import {choose} from './store.mjs';

const signs = {good: '●', middle: '◐', bad: '▲', unknown: '○'};
const meanings = {good: 'in order', middle: 'on its way', bad: 'wrong', unknown: 'not known'};

// health is a sign in a colour, and its meaning for those who do not see it.
export function health(value, meaning) {
  return h('span', {class: `health ${value}`, title: meaning ?? meanings[value]},
    h('span', {'aria-hidden': 'true'}, signs[value]),
    h('span', {class: 'unseen'}, ` ${meaning ?? meanings[value]} `));
}

export function problems(list) {
  return list?.length ? h('ul', {class: 'problems'}, list.map((words) => h('li', {key: words}, words))) : null;
}

export function service(s, label) {
  return h('button', {type: 'button', class: 'link', 'data-key': s.key, onClick: () => choose(s.key)}, label ?? `${s.namespace}/${s.name}`);
}

export function time(at) {
  return at ? h('time', {dateTime: at}, new Date(at).toLocaleString()) : '';
}

export function plural(count, one) {
  return `${count} ${one}${count === 1 ? '' : 's'}`;
}

const count = new Intl.NumberFormat('en', {notation: 'compact', maximumSignificantDigits: 3});
const bytes = new Intl.NumberFormat('en',
  {style: 'unit', unit: 'byte-per-second', unitDisplay: 'narrow', notation: 'compact', maximumSignificantDigits: 3});

// number for people. What nobody can tell is a dash.
export function number(n) {
  return n === undefined ? '–' : count.format(n);
}

export function rate(n) {
  return n === undefined ? '–' : `${count.format(n)}/s`;
}

export function flow(n) {
  return n === undefined ? '–' : bytes.format(n);
}

// nodes that a host holds for up, and which of the others are down since when.
export function nodes({up, down, named}) {
  if (up === undefined) return '–';
  const more = down - (named?.length ?? 0);
  return [`${up} of ${up + down}`, down ? h('ul', {class: 'problems'},
    (named ?? []).map((n) => h('li', {key: n.node}, `${n.node} is down`, n.since ? [' since ', time(n.since)] : '')),
    more > 0 ? h('li', null, `${plural(more, named ? 'more node' : 'node')} down`) : null) : null];
}

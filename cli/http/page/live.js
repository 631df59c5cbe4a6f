// The cluster as it is now: asked once a second while somebody looks.
const kLookEvery = 1000;
const kWindow = 60;  // looks that are kept
const kEvents = 100;
const looks = [];    // the latest last
const known = new Map();  // node -> what was last said of it
let looking = false;

const kPhases = [
  ['attention_ns', 'attention', '--c-attention'], ['shared_ns', 'shared experts', '--c-shared'], ['dispatch_ns', 'dispatch', '--c-dispatch'],
  ['experts_ns', 'experts', '--c-experts'], ['combine_ns', 'combine', '--c-combine'], ['head_ns', 'head and sampling', '--c-head'],
];
const kWaitColours = ['--c-wait', '--c-wait2', '--c-wait3'];

async function watch() {
  if (looking) return;
  looking = true;
  while (location.hash === '#live') {
    if (!document.hidden) {
      try {
        const look = await (await request('/live')).json();
        looks.push(look);
        if (looks.length > kWindow) looks.shift();
        note(look);
        sayTrouble(look);
        drawLive();
      } catch (error) {
        sayTrouble({ trouble: error.status === 401 ? 'An API key is needed to look at the cluster: enter it in the chat.' : error.message });
        if (error.status === 401) byId('key-row').hidden = false;
      }
    }
    await new Promise((wake) => setTimeout(wake, kLookEvery));
  }
  looking = false;
}

function sayTrouble(look) {
  const words = [look.trouble, look.coordinator_reachable === false ? 'The Coordinator does not answer; the cluster serves without it.' : ''].filter(Boolean).join(' ');
  byId('live-trouble').hidden = !words;
  byId('live-trouble').textContent = words;
}

const stateOf = (node) => (node.suspected ? 'silent' : { absent: 'gone', joined: 'joined', loading: 'loading', ready: 'ready' }[node.state] ?? node.state);
const stateClass = (state) => ({ ready: 'dot good', gone: 'dot bad', silent: 'dot warn' }[state] ?? 'dot warn');

// What changed since the last look, in words.
function note(look) {
  for (const node of look.nodes) {
    const state = stateOf(node);
    const before = known.get(node.id);
    // The life in which it was last ready: a node may die and be started again between two looks.
    let lived = before?.lived ?? 0;
    if (before !== undefined) {
      if (node.life > before.life && before.life > 0 && before.state !== 'gone') tell(`${node.name} is gone: its life ${before.life} is over`);
      if (state === 'ready' && node.life > lived && lived > 0) tell(`${node.name} is ready again, in life ${node.life}`);
      else if (before.state !== state) tell(`${node.name} is ${state}`);
    }
    if (state === 'ready') lived = node.life;
    known.set(node.id, { state, life: node.life > 0 ? node.life : before?.life ?? 0, lived });
  }
}

function tell(words) {
  byId('events').prepend(element('li', {}, element('time', {}, new Date().toLocaleTimeString()), words));
  while (byId('events').children.length > kEvents) byId('events').lastChild.remove();
}

// How much a figure grew from one look to another in the same life of the node; since its start where there is no earlier.
function grown(node, earlier, name) {
  const now = node.figures?.numbers[name] ?? 0;
  return now - (earlier?.figures?.numbers[name] ?? 0);
}
function earlierOf(node, look) {
  const before = look?.nodes.find((one) => one.id === node.id);
  return before !== undefined && before.life === node.life && before.figures ? before : null;
}
// The latest stretch of at most so many seconds in which the node took steps: [node, earlier]. A quiet minute keeps the last.
function stretch(id, seconds, name) {
  for (let at = looks.length - 1; at > 0; at -= 1) {
    const node = looks[at].nodes.find((one) => one.id === id);
    if (!node?.figures) continue;
    if (seconds === 0) return [node, null];
    const previous = earlierOf(node, looks[at - 1]);
    if (previous === null || grown(node, previous, name) === 0) continue;
    let from = at - 1;
    while (from > 0 && looks[at].at_ns - looks[from - 1].at_ns <= seconds * 1e9 && earlierOf(node, looks[from - 1]) !== null) from -= 1;
    return [node, earlierOf(node, looks[from])];
  }
  const node = looks.at(-1)?.nodes.find((one) => one.id === id);
  return node?.figures ? [node, null] : null;
}

function drawLive() {
  const look = looks.at(-1);
  if (look === undefined || byId('view-live').hidden) return;
  drawTiles(look);
  drawNodes(look);
  drawSteps(look);
  drawHeat(look);
}

function drawTiles(look) {
  const of = (name) => look.service[name] ?? 0;
  const sum = (name) => look.nodes.reduce((all, node) => all + (node.figures?.numbers[name] ?? 0), 0);
  const before = looks.at(-4) ?? looks[0];
  const seconds = (look.at_ns - before.at_ns) / 1e9;
  const rate = (name) => (seconds > 0.5 ? (of(name) - (before.service[name] ?? 0)) / seconds : 0);
  const tiles = [
    ['running', sum('running')],
    ['waiting', sum('queued')],
    ['tokens per second', rateInWords(Math.max(0, rate('vllm:generation_tokens_total')))],
  ];
  const first = of('vllm:time_to_first_token_seconds');
  tiles.push(['first token, median', first.count ? secondsInWords(first.p50_ns / 1e9) : '–']);
  const queries = sum('prefix_queries');
  tiles.push(['prompts from cache', queries ? percent(sum('prefix_hits') / queries) : '–']);
  const pages = sum('pages_total');
  tiles.push(['KV pages in use', pages ? sum('pages_used') : '–', pages ? `of ${pages}` : '']);
  byId('tiles').replaceChildren(...tiles.map(([name, value, more]) => element('div', {}, element('dt', {}, name),
    element('dd', {}, String(value), more ? element('small', {}, more) : null))));
}

// Expert weights read per second of computing, lately.
function bandwidthOf(id) {
  const found = stretch(id, 10, 'part_bytes_read');
  const time = found ? grown(found[0], found[1], 'part_busy_ns') / 1e9 : 0;
  return time > 0 ? grown(found[0], found[1], 'part_bytes_read') / time : 0;
}

function drawNodes(look) {
  byId('epoch').textContent = `epoch ${look.epoch}`;
  byId('prediction').textContent = look.prediction ? `Planned: ${look.prediction}` : '';
  // Rows keep their button, so that a click or the focus is not lost to the next look.
  const body = byId('nodes').tBodies[0];
  const reachedBy = new Map(look.nodes.map((node) => [node.id, bandwidthOf(node.id)]));
  const most = Math.max(1, ...reachedBy.values());
  const rows = new Map([...body.rows].map((row) => [row.dataset.node, row]));
  for (const node of look.nodes) {
    let row = rows.get(node.name);
    rows.delete(node.name);
    if (row === undefined) {
      row = element('tr', { 'data-node': node.name }, element('th', { scope: 'row' }, node.name), ...[1, 2, 3, 4, 5, 6].map(() => element('td')));
      row.cells[3].className = 'num';
      row.cells[5].className = 'num';
      row.cells[3].dataset.label = 'holds';
      row.cells[5].dataset.label = 'busy';
      row.cells[6].append(element('button', { type: 'button', class: 'drain', 'aria-label': `Drain ${node.name}`, onclick: () => askToDrain(node.name) }, 'Drain…'));
      body.append(row);
    }
    const state = stateOf(node);
    const [, stateCell, roles, holds, bandwidth, busy, drain] = row.cells;
    row.dataset.state = state;
    stateCell.replaceChildren(element('span', { class: stateClass(state) }, state), element('span', { class: 'quiet small' }, node.life > 1 ? ` life ${node.life}` : ''));
    roles.textContent = node.roles.join(', ');
    holds.textContent = node.part_bytes + node.trunk_bytes > 0 ? bytesInWords(node.part_bytes + node.trunk_bytes) : '–';
    const reached = reachedBy.get(node.id);
    bandwidth.replaceChildren();
    if (reached > 0) {
      const bar = element('b');
      bar.style.width = `${(100 * reached) / most}%`;
      bandwidth.append(element('span', { class: 'meter', title: `measured at start: ${bytesInWords(node.probed_bytes_per_second)}/s` }, element('i', {}, bar), `${bytesInWords(reached)}/s`));
    } else bandwidth.append(element('span', { class: 'quiet' }, node.roles.includes('experts') ? 'nothing read yet' : ''));
    const last = looks.at(-4) ?? looks[0];
    const earlier = earlierOf(node, last);
    const seconds = earlier ? (node.figures?.at_ns - earlier.figures.at_ns) / 1e9 : 0;
    busy.textContent = node.figures && seconds > 0.5 && node.roles.includes('experts') ? percent(Math.min(1, grown(node, earlier, 'part_busy_ns') / 1e9 / seconds)) : '';
    drain.firstChild.hidden = state === 'gone' || node.roles.includes('batcher') || node.roles.includes('coordinator');
  }
  for (const row of rows.values()) row.remove();
}

function drawSteps(look) {
  const seconds = Number(byId('window').value);
  const names = new Map(look.nodes.map((node) => [node.id, node.name]));
  const colours = new Map(kPhases.map(([, name, colour]) => [name, colour]));
  const shown = new Map();
  const lines = [];
  let all = 0;  // ns, of all steps of all nodes
  for (const node of look.nodes) {
    if (!node.roles.includes('trunk')) continue;
    const found = stretch(node.id, seconds, 'steps');
    const steps = found ? grown(found[0], found[1], 'steps') : 0;
    if (steps === 0) continue;
    const step = grown(found[0], found[1], 'step_ns') / steps;
    const pieces = kPhases.map(([key, name]) => [name, grown(found[0], found[1], key) / steps]);
    for (const edge of found[0].figures.edges) {
      const before = found[1]?.figures.edges.find((one) => one.peer === edge.peer)?.wait_ns ?? 0;
      const name = `wait for ${names.get(edge.peer) ?? edge.peer}`;
      if (!colours.has(name)) colours.set(name, kWaitColours[(colours.size - kPhases.length) % kWaitColours.length]);
      pieces.push([name, (edge.wait_ns - before) / steps]);
    }
    const rest = step - pieces.reduce((sum, [, ns]) => sum + ns, 0);
    colours.set('hand-over', '--c-other');
    pieces.push(['hand-over', Math.max(0, rest)]);
    const words = pieces.filter(([, ns]) => ns > 0).map(([name, ns]) => `${name} ${percent(ns / step)}`).join(', ');
    const stack = element('div', { class: 'stack', role: 'img', 'aria-label': `${node.name}: ${words}` });
    for (const [name, ns] of pieces) {
      if (ns <= 0) continue;
      const piece = element('i', { title: `${name}: ${secondsInWords(ns / 1e9)}, ${percent(ns / step)}` });
      piece.style.flex = `${ns / step} 1 0`;
      piece.style.background = `var(${colours.get(name)})`;
      stack.append(piece);
      shown.set(name, (shown.get(name) ?? 0) + ns * steps);
    }
    all += step * steps;
    const rows = grown(found[0], found[1], 'step_rows') / steps;
    lines.push(element('div', { class: 'line' }, element('div', { class: 'what' }, element('b', {}, node.name),
      element('span', {}, `${secondsInWords(step / 1e9)} per step`), element('span', {}, `${steps} step${steps === 1 ? '' : 's'} of ${rateInWords(rows)} rows`)), stack));
  }
  byId('steps').replaceChildren(...(lines.length ? lines : [element('p', { class: 'quiet' }, 'No step was taken yet.')]));
  byId('legend').replaceChildren(...[...shown].map(([name, share]) => {
    const box = element('i');
    box.style.background = `var(${colours.get(name)})`;
    return element('li', {}, box, `${name} ${percent(share / all)}`);
  }));
}

let heat = { layers: [], experts: 0, rows: [] };

function drawHeat(look) {
  const sums = new Map();
  const seconds = Number(byId('window').value);
  for (const node of look.nodes) {
    if (!node.roles.includes('trunk')) continue;
    const found = stretch(node.id, seconds, 'steps');
    if (!found) continue;
    const before = new Map((found[1]?.figures.loads ?? []).map((load) => [load.layer, load.rows]));
    for (const load of found[0].figures.loads) {
      const sum = sums.get(load.layer) ?? [];
      const past = before.get(load.layer) ?? [];
      load.rows.forEach((count, expert) => { sum[expert] = (sum[expert] ?? 0) + ((count - (past[expert] ?? 0)) >>> 0); });
      sums.set(load.layer, sum);
    }
  }
  const layers = [...sums.keys()].sort((a, b) => a - b);
  const experts = Math.max(0, ...[...sums.values()].map((rows) => rows.length));
  heat = { layers, experts, rows: layers.map((layer) => Array.from({ length: experts }, (_, e) => sums.get(layer)[e] ?? 0)) };
  const canvas = byId('heat');
  if (layers.length === 0) {
    canvas.height = 0;
    byId('load-words').textContent = 'No token was routed yet.';
    return;
  }
  const most = Math.max(1, ...heat.rows.map((row) => Math.max(...row)));
  const ink = getComputedStyle(document.documentElement).getPropertyValue('--heat').split(',').map(Number);
  canvas.width = experts;
  canvas.height = layers.length;
  canvas.style.height = `${Math.min(Math.max(layers.length * 5, Math.min(layers.length * 22, 150)), 420)}px`;
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(experts, layers.length);
  heat.rows.forEach((row, y) => row.forEach((count, x) => {
    const at = 4 * (y * experts + x);
    ink.forEach((part, i) => { pixels.data[at + i] = part; });
    pixels.data[at + 3] = count === 0 ? 0 : 20 + Math.round(235 * Math.sqrt(count / most));
  }));
  context.putImageData(pixels, 0, 0);
  let [layer, expert] = [0, 0];
  heat.rows.forEach((row, y) => row.forEach((count, x) => { if (count > heat.rows[layer][expert]) [layer, expert] = [y, x]; }));
  const mean = heat.rows[layer].reduce((a, b) => a + b, 0) / experts;
  const unused = heat.rows.flat().filter((count) => count === 0).length;
  byId('load-words').textContent = `${layers.length} layers of ${experts} experts; busiest is expert ${expert} of layer ${layers[layer]}, ${rateInWords(heat.rows[layer][expert] / mean)} times its layer's mean${unused ? `; ${unused} unused` : ''}`;
  canvas.setAttribute('aria-label', `Load of experts by layer. ${byId('load-words').textContent}.`);
  byId('scale-most').textContent = `${most} rows`;
}

let toDrain = '';
function askToDrain(name) {
  toDrain = name;
  byId('drain-title').textContent = `Drain ${name}?`;
  byId('drain-said').hidden = true;
  byId('drain-yes').disabled = false;
  byId('drain').showModal();
  byId('drain-no').focus();
}

function startLive() {
  byId('window').addEventListener('change', drawLive);
  byId('heat').addEventListener('pointermove', (event) => {
    const box = byId('heat').getBoundingClientRect();
    const x = Math.floor(((event.clientX - box.left) / box.width) * heat.experts);
    const y = Math.floor(((event.clientY - box.top) / box.height) * heat.layers.length);
    const count = heat.rows[y]?.[x];
    byId('heat-at').textContent = count === undefined ? '' : `layer ${heat.layers[y]}, expert ${x}: ${count} rows`;
  });
  byId('heat').addEventListener('pointerleave', () => { byId('heat-at').textContent = ''; });
  byId('drain-yes').addEventListener('click', async () => {
    byId('drain-yes').disabled = true;
    try {
      await request('/drain', { method: 'POST', body: JSON.stringify({ node: toDrain }) });
      byId('events').prepend(element('li', {}, element('time', {}, new Date().toLocaleTimeString()), `${toDrain} was drained`));
      byId('drain').close();
    } catch (error) {
      byId('drain-said').textContent = error.message;
      byId('drain-said').hidden = false;
    }
  });
}

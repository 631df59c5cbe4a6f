// The chat: a conversation, streamed answers, stop and regenerate.
const kDrawEvery = 60;  // ms between drawings of an answer that comes in
let about = { model: '', needs_key: false, thinking_switch: false };
let running = null;  // the answer under way: {abort, conversation, message}

const conversation = () => store.conversations.find((one) => one.id === store.current) ?? null;
const title = (one) => one.messages[0]?.content.trim().split('\n')[0].slice(0, 60) || 'New conversation';

function open(id) {
  store.current = id;
  store.save();
  byId('side').classList.remove('open');
  byId('menu').setAttribute('aria-expanded', 'false');
  drawAll();
}

function forget(id) {
  if (running?.conversation.id === id) running.abort.abort();
  store.conversations = store.conversations.filter((one) => one.id !== id);
  if (store.current === id) store.current = null;
  store.save();
  drawAll();
}

function drawAll() {
  byId('conversations').replaceChildren(...store.conversations.map((one) => element('li', { 'aria-current': one.id === store.current ? 'true' : null },
    element('button', { type: 'button', onclick: () => open(one.id) }, title(one)),
    element('button', { type: 'button', class: 'forget', 'aria-label': `Forget: ${title(one)}`, onclick: () => forget(one.id) }, '✕'))));
  const messages = conversation()?.messages ?? [];
  byId('messages').replaceChildren(...messages.map((message, at) => drawMessage(message, at === messages.length - 1)));
  byId('empty').hidden = messages.length > 0;
  toEnd(true);
  drawButtons();
}

function drawButtons() {
  const here = running !== null && running.conversation.id === store.current;
  byId('send').hidden = here;
  byId('stop').hidden = !here;
  byId('send').disabled = running !== null;
}

function toEnd(always) {
  const scroll = byId('scroll');
  if (always || scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 120) scroll.scrollTop = scroll.scrollHeight;
}

function figuresOf(message) {
  const words = [];
  if (message.tokens) words.push(`${message.tokens} token${message.tokens === 1 ? '' : 's'}`);
  if (message.tokens > 1 && message.last !== undefined) {
    // What came in a burst says nothing of the pace: then the wait for it counts too.
    const isBurst = message.last - message.first < 100;
    const ms = isBurst ? message.last - message.begun : message.last - message.first;
    words.push(`${rateInWords((message.tokens - (isBurst ? 0 : 1)) / (ms / 1000))} tokens/s`);
  }
  if (message.first !== undefined) words.push(`first after ${secondsInWords((message.first - message.begun) / 1000)}`);
  if (message.cached) words.push(`${message.cached} of the prompt cached`);
  if (message.finish === 'length') words.push('ended at the longest length');
  if (message.finish === 'stopped') words.push('stopped');
  return words.join(' · ');
}

function thoughtTitle(message, active) {
  if (message.thought_ms === undefined) return active ? 'Thinking…' : 'Thought, not ended';
  return `Thought for ${secondsInWords(message.thought_ms / 1000)}`;
}

function drawMessage(message, isLast) {
  if (message.role === 'user') {
    return element('article', { class: 'message user', 'aria-label': 'You' }, element('div', { class: 'body' }, message.content));
  }
  const active = running?.message === message;
  const drawn = element('article', { class: 'message assistant', 'aria-label': 'Answer', 'aria-busy': active ? 'true' : null });
  if (message.reasoning) {
    const details = element('details', { class: 'thought' }, element('summary', {}, thoughtTitle(message, active)), element('div', {}, message.reasoning));
    details.open = message.open ?? false;
    details.addEventListener('toggle', () => { message.open = details.open; });
    drawn.append(details);
  }
  const prose = element('div', { class: active ? 'prose waits-here' : 'prose' }, ...markdown(message.content));
  if (active) (prose.lastElementChild?.tagName === 'P' ? prose.lastElementChild : prose).classList.add('waits');
  drawn.append(prose);
  if (message.error) drawn.append(element('p', { class: 'failed', role: 'alert' }, message.error));
  if (!active) {
    const copy = element('button', { type: 'button', onclick: () => copyText(copy, message.content) }, 'Copy');
    drawn.append(element('div', { class: 'foot' }, message.content ? copy : null,
      isLast ? element('button', { type: 'button', class: 'again', onclick: regenerate }, message.error ? 'Try again' : 'Regenerate') : null,
      element('span', {}, figuresOf(message))));
  }
  return drawn;
}

function drawLast() {
  if (running === null || running.conversation.id !== store.current) return;
  const box = byId('messages');
  box.lastElementChild?.replaceWith(drawMessage(running.message, true));
  toEnd(false);
}

// Server-sent events as they come: lines, blank line ends one, ':' comments.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n|\n|\r/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield data.join('\n');
        data = [];
      } else if (line.startsWith('data:')) data.push(line.slice(line.startsWith('data: ') ? 6 : 5));
    }
  }
}

function body(one) {
  const settings = store.settings;
  const asked = { model: about.model, stream: true, stream_options: { include_usage: true },
    messages: one.messages.slice(0, -1).filter((m) => m.content).map((m) => ({ role: m.role, content: m.content })) };
  for (const name of ['temperature', 'top_p', 'max_tokens', 'seed']) {
    if (settings[name] !== undefined && settings[name] !== '') asked[name] = Number(settings[name]);
  }
  if (about.thinking_switch && settings.thinking) asked.chat_template_kwargs = { thinking: settings.thinking === 'on' };
  return JSON.stringify(asked);
}

async function answer(one) {
  const message = { role: 'assistant', content: '', reasoning: '', begun: performance.now() };
  one.messages.push(message);
  running = { abort: new AbortController(), conversation: one, message };
  drawAll();
  let drawn = 0;
  let later = null;
  const draw = () => {
    const since = performance.now() - drawn;
    if (since >= kDrawEvery) {
      drawn = performance.now();
      drawLast();
    } else later ??= setTimeout(() => { later = null; draw(); }, kDrawEvery - since);
  };
  let pieces = 0;
  let ended = false;
  try {
    const response = await request('/v1/chat/completions', { method: 'POST', body: body(one), signal: running.abort.signal });
    for await (const data of events(response)) {
      if (data === '[DONE]') { ended = true; break; }
      const chunk = JSON.parse(data);
      if (chunk.error) throw new Error(chunk.error.message);
      if (chunk.usage) {
        message.tokens = chunk.usage.completion_tokens;
        message.cached = chunk.usage.prompt_tokens_details?.cached_tokens ?? 0;
      }
      const choice = chunk.choices?.[0];
      if (!choice) continue;
      const thought = choice.delta?.reasoning_content ?? '';
      const text = choice.delta?.content ?? '';
      if (thought || text) {
        message.last = performance.now();
        message.first ??= message.last;
        pieces += 1;
      }
      if (text && message.reasoning) message.thought_ms ??= performance.now() - (message.first ?? message.begun);
      message.reasoning += thought;
      message.content += text;
      if (choice.finish_reason) message.finish = choice.finish_reason;
      draw();
    }
    if (!ended) throw new Error('The connection ended before the answer did.');
  } catch (error) {
    if (error.name === 'AbortError') message.finish = 'stopped';
    else message.error = error.message;
    if (error.status === 401) askForKey();
  }
  message.tokens ??= pieces;
  if (message.reasoning && message.finish !== undefined && message.finish !== 'stopped') message.thought_ms ??= message.last - message.first;
  clearTimeout(later);
  running = null;
  store.save();
  drawAll();
}

function send() {
  const text = byId('prompt').value.trim();
  if (!text || running !== null) return;
  let one = conversation();
  if (one === null) {
    one = { id: `${Date.now().toString(36)}${Math.random().toString(36).slice(2, 8)}`, messages: [] };
    store.conversations.unshift(one);
    store.current = one.id;
  }
  one.messages.push({ role: 'user', content: text });
  byId('prompt').value = '';
  grow();
  store.save();
  answer(one);
}

function regenerate() {
  const one = conversation();
  if (one === null || running !== null) return;
  while (one.messages.at(-1)?.role === 'assistant') one.messages.pop();
  if (one.messages.length > 0) answer(one);
}

function askForKey() {
  byId('key-row').hidden = false;
  byId('key').focus();
}

function grow() {
  const box = byId('prompt');
  box.style.height = 'auto';
  box.style.height = `${Math.min(box.scrollHeight, innerHeight * 0.4)}px`;
}

function startChat() {
  byId('composer').addEventListener('submit', (event) => { event.preventDefault(); send(); });
  byId('stop').addEventListener('click', () => running?.abort.abort());
  byId('new').addEventListener('click', () => { open(null); byId('prompt').focus(); });
  byId('prompt').addEventListener('input', grow);
  byId('prompt').addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
    if (event.key === 'Escape') running?.abort.abort();
  });
  byId('menu').addEventListener('click', () => {
    byId('menu').setAttribute('aria-expanded', String(byId('side').classList.toggle('open')));
  });
  byId('settings-button').addEventListener('click', () => {
    const isHidden = byId('settings').toggleAttribute('hidden');
    byId('settings-button').setAttribute('aria-expanded', String(!isHidden));
  });
  for (const name of ['temperature', 'top_p', 'max_tokens', 'seed', 'thinking']) {
    const field = byId(name);
    field.value = store.settings[name] ?? '';
    field.addEventListener('input', () => { store.settings[name] = field.value; keep('settings', store.settings); });
  }
  byId('key').value = store.key;
  byId('key').addEventListener('input', () => { store.key = byId('key').value.trim(); });
  addEventListener('pagehide', () => { if (running !== null) { running.message.finish = 'stopped'; store.save(); } });
  drawAll();
}

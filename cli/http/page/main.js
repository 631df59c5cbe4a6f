// The page: which view, which theme, whether the service serves.
const dark = matchMedia('(prefers-color-scheme: dark)');

function applyTheme() {
  const theme = store.theme ?? (dark.matches ? 'dark' : 'light');
  document.documentElement.dataset.theme = theme;
  const other = theme === 'dark' ? 'light' : 'dark';
  byId('theme').textContent = theme === 'dark' ? '☀' : '☾';
  byId('theme').setAttribute('aria-label', `Switch to the ${other} theme`);
  drawLive();
}

function show() {
  const isLive = location.hash === '#live';
  byId('view-chat').hidden = isLive;
  byId('view-live').hidden = !isLive;
  byId('menu').hidden = isLive;
  for (const [id, current] of [['tab-chat', !isLive], ['tab-live', isLive]]) {
    if (current) byId(id).setAttribute('aria-current', 'page');
    else byId(id).removeAttribute('aria-current');
  }
  if (isLive) watch();
  else byId('prompt').focus();
}

async function askHealth() {
  let words = 'serving';
  let good = true;
  try {
    const response = await fetch('/health', { cache: 'no-store' });
    const said = await response.json();
    if (!response.ok) { good = false; words = said.why ?? 'not serving'; }
  } catch {
    good = false;
    words = 'not reachable';
  }
  byId('health').textContent = words;
  byId('health').className = `health ${good ? 'good' : 'bad'}`;
}

async function start() {
  dark.addEventListener('change', applyTheme);
  byId('theme').addEventListener('click', () => {
    store.theme = document.documentElement.dataset.theme === 'dark' ? 'light' : 'dark';
    keep('theme', store.theme);
    applyTheme();
  });
  applyTheme();
  startChat();
  startLive();
  addEventListener('hashchange', show);
  show();
  try {
    about = await (await request('/about')).json();
  } catch { /* requests will say it */ }
  byId('model').textContent = about.model;
  byId('empty-model').textContent = about.model ? `${about.model} answers. Enter sends, Shift and Enter begin a new line.` : '';
  byId('thinking-label').hidden = !about.thinking_switch;
  byId('key-row').hidden = !about.needs_key;
  document.title = about.model ? `${about.model} · Consort` : 'Consort';
  askHealth();
  setInterval(() => { if (!document.hidden) askHealth(); }, 5000);
}
start();

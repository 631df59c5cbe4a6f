// What the browser keeps: conversations and settings for good, the key until the tab is closed.
const kMostConversations = 50;

function read(key, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`consort.${key}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}
// Where nothing may be kept, or nothing more fits, the page goes on without.
function keep(key, value) {
  try {
    localStorage.setItem(`consort.${key}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

const store = {
  conversations: read('conversations', []),
  current: read('current', null),
  settings: read('settings', {}),
  theme: read('theme', null),
  get key() {
    try { return sessionStorage.getItem('consort.key') ?? ''; } catch { return ''; }
  },
  set key(value) {
    try { sessionStorage.setItem('consort.key', value); } catch { /* asked for again */ }
  },
  save() {
    this.conversations = this.conversations.slice(0, kMostConversations);
    while (!keep('conversations', this.conversations) && this.conversations.length > 1) this.conversations.pop();
    keep('current', this.current);
  },
};

// A request to the service; errors in words.
async function request(path, options = {}) {
  const headers = { ...(options.body ? { 'Content-Type': 'application/json' } : {}), ...(store.key ? { Authorization: `Bearer ${store.key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: 'no-store', credentials: 'omit' });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Error('The service cannot be reached. Is it running?');
  }
  if (response.ok) return response;
  let words = `The service answered ${response.status}.`;
  try {
    const said = (await response.json()).error;
    words = said.message.charAt(0).toUpperCase() + said.message.slice(1);
    if (!/[.!?]$/.test(words)) words += '.';
  } catch { /* the status has to do */ }
  const error = new Error(words);
  error.status = response.status;
  throw error;
}

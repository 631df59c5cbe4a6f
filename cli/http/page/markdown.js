// Markdown to elements. Text of a model only ever becomes text nodes: there is no way from it to markup.
const safeLink = (address) => /^(https?:|mailto:)/i.test(address);

// **bold**, *italics*, `code`, [text](address), ~~gone~~, bare addresses.
function inline(text, depth = 0) {
  const pattern = /(`+)([\s\S]*?[^`])\1(?!`)|\*\*(\S(?:[\s\S]*?\S)?)\*\*|(?<![\w*])\*(\S(?:[^*]*?\S)?)\*(?![\w*])|(?<!\w)_(\S(?:[^_]*?\S)?)_(?!\w)|~~(\S(?:[\s\S]*?\S)?)~~|\[([^\]\n]+)\]\(([^()\s]+)\)|(https?:\/\/[^\s<>()[\]]*[^\s<>()[\].,;:!?'"])/g;
  const out = [];
  let last = 0;
  const inner = (piece) => (depth < 6 ? inline(piece, depth + 1) : [piece]);
  for (const match of text.matchAll(pattern)) {
    if (match.index > last) out.push(text.slice(last, match.index));
    last = match.index + match[0].length;
    const [whole, , code, strong, star, under, gone, label, address, bare] = match;
    if (code !== undefined) out.push(element('code', {}, code.replace(/^ (.*) $/, '$1')));
    else if (strong !== undefined) out.push(element('strong', {}, ...inner(strong)));
    else if (star !== undefined || under !== undefined) out.push(element('em', {}, ...inner(star ?? under)));
    else if (gone !== undefined) out.push(element('s', {}, ...inner(gone)));
    else if (bare !== undefined || safeLink(address)) {
      out.push(element('a', { href: bare ?? address, target: '_blank', rel: 'noopener noreferrer' }, ...(bare ? [bare] : inner(label))));
    } else out.push(whole);
  }
  if (last < text.length) out.push(text.slice(last));
  return out;
}

function codeBlock(language, text) {
  const copy = element('button', { type: 'button', onclick: () => copyText(copy, text) }, 'Copy');
  return element('div', { class: 'code' }, element('div', { class: 'top' }, element('span', {}, language), copy),
    element('pre', { tabindex: '0' }, element('code', {}, text)));
}

const cells = (line) => line.trim().replace(/^\||\|$/g, '').split('|').map((cell) => cell.trim());

function blocks(lines, depth = 0) {
  const out = [];
  let i = 0;
  const startsBlock = (line) => /^\s*(```|~~~|#{1,6}\s|>|[-*+]\s|\d{1,9}[.)]\s)/.test(line) || /^\s*([-*_])(\s*\1){2,}\s*$/.test(line);
  while (i < lines.length) {
    const line = lines[i];
    let match;
    if (/^\s*$/.test(line)) {
      i += 1;
    } else if ((match = line.match(/^\s*(```+|~~~+)\s*([^`\s]*)/))) {
      const [, fence, language] = match;
      const inside = [];
      for (i += 1; i < lines.length && !lines[i].trim().startsWith(fence); i += 1) inside.push(lines[i]);
      i += 1;
      out.push(codeBlock(language, inside.join('\n')));
    } else if ((match = line.match(/^\s*(#{1,6})\s+(.*?)\s*#*\s*$/))) {
      out.push(element(`h${Math.min(match[1].length, 4)}`, {}, ...inline(match[2])));
      i += 1;
    } else if (/^\s*([-*_])(\s*\1){2,}\s*$/.test(line)) {
      out.push(element('hr'));
      i += 1;
    } else if (/^\s*>/.test(line)) {
      const inside = [];
      for (; i < lines.length && /^\s*>/.test(lines[i]); i += 1) inside.push(lines[i].replace(/^\s*> ?/, ''));
      out.push(element('blockquote', {}, ...(depth < 6 ? blocks(inside, depth + 1) : inside)));
    } else if ((match = line.match(/^(\s*)([-*+]|\d{1,9}[.)])\s+/))) {
      const ordered = /\d/.test(match[2]);
      const list = element(ordered ? 'ol' : 'ul', ordered && parseInt(match[2], 10) !== 1 ? { start: parseInt(match[2], 10) } : {});
      const indent = match[1].length;
      while (i < lines.length) {
        const item = lines[i].match(/^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$/);
        if (!item || item[1].length > indent + 1 || item[1].length < indent || /\d/.test(item[2]) !== ordered) break;
        const inside = [item[3]];
        for (i += 1; i < lines.length; i += 1) {
          const further = lines[i];
          const leading = further.match(/^\s*/)[0].length;
          if (/^\s*$/.test(further)) {
            if (i + 1 < lines.length && lines[i + 1].match(/^\s*/)[0].length > indent && !/^\s*$/.test(lines[i + 1])) inside.push('');
            else break;
          } else if (leading > indent) inside.push(further.slice(Math.min(leading, indent + item[2].length + 1)));
          else if (startsBlock(further)) break;
          else inside.push(further);
        }
        const made = depth < 6 ? blocks(inside, depth + 1) : [inside.join('\n')];
        list.append(element('li', {}, ...(made.length && made[0].tagName === 'P' ? [...made[0].childNodes, ...made.slice(1)] : made)));
        while (i < lines.length && /^\s*$/.test(lines[i]) && i + 1 < lines.length && /^\s*([-*+]|\d{1,9}[.)])\s/.test(lines[i + 1])) i += 1;
      }
      out.push(list);
    } else if (line.includes('|') && i + 1 < lines.length && /^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$/.test(lines[i + 1]) && lines[i + 1].includes('-')) {
      const head = element('tr', {}, ...cells(line).map((cell) => element('th', { scope: 'col' }, ...inline(cell))));
      const body = element('tbody');
      for (i += 2; i < lines.length && lines[i].includes('|'); i += 1) {
        body.append(element('tr', {}, ...cells(lines[i]).map((cell) => element('td', {}, ...inline(cell)))));
      }
      out.push(element('table', {}, element('thead', {}, head), body));
    } else {
      const inside = [line];
      for (i += 1; i < lines.length && !/^\s*$/.test(lines[i]) && !startsBlock(lines[i]); i += 1) inside.push(lines[i]);
      const paragraph = element('p');
      inside.forEach((piece, n) => {
        if (n > 0) paragraph.append(/ {2}$/.test(inside[n - 1]) ? element('br') : '\n');
        paragraph.append(...inline(piece.trim()));
      });
      out.push(paragraph);
    }
  }
  return out;
}

const markdown = (text) => blocks(text.replace(/\r\n?/g, '\n').split('\n'));

// Where the values of a JSON text are, by path: "families[0].lstm.hidden".

// A list of {path, begin, end, value}, in the order of the text: every value, after those that it contains. `value` is
// that of a number, a string or a word; undefined for lists and objects. The text must be valid.
export function placesOf(text) {
  const places = [];
  const word = /[ \t\r\n]*([{}[\]:,]|"(?:[^"\\]|\\.)*"|[^{}[\]:,"\s]+)/y;
  let token = "";
  let begin = 0;
  let end = 0;
  const next = () => {
    const found = word.exec(text);
    token = found ? found[1] : "";
    end = word.lastIndex;
    begin = end - token.length;
  };
  const read = (path) => {
    const place = { path, begin, end: 0, value: undefined };
    if (token === "{") {
      for (next(); token && token !== "}"; ) {
        if (token === ",") next();
        const name = JSON.parse(token);
        next(); // the colon
        next();
        read(path ? `${path}.${name}` : name);
      }
    } else if (token === "[") {
      next();
      for (let i = 0; token && token !== "]"; i++) {
        if (token === ",") next();
        read(`${path}[${i}]`);
      }
    } else {
      place.value = JSON.parse(token);
    }
    place.end = end;
    places.push(place);
    next();
  };
  next();
  if (token) read("");
  return places;
}

// The place of a path, or of the nearest one around it; null if the text is not JSON.
export function placeOf(text, path) {
  let places;
  try {
    JSON.parse(text);
    places = placesOf(text);
  } catch {
    return null;
  }
  for (let at = path; at; at = at.replace(/(\.[^.[\]]+|\[\d+\]|^[^.[\]]+)$/, "")) {
    const found = places.find((place) => place.path === at);
    if (found) return found;
  }
  return null;
}

// The line of an offset, from 1.
export const lineOf = (text, offset) => text.slice(0, offset).split("\n").length;

// Recognises the chat templates of DeepSeek's repositories, so that no Jinja interpreter is needed.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace consort::model {

// Jinja source in a form that does not depend on its layout: outside of strings no white space, no comments, no
// trimming dashes; strings in single quotes, with \n as a line feed.
std::string normalised_template(std::string_view source);

// The name of the format whose distinguishing expressions the template has, all of them; empty where there is none.
// The expressions are those that write the system text, a user's turn, an assistant's turn and the generation prompt,
// so a template that differs in one of these is unknown, not similar.
std::string_view recognised_template(std::string_view source);

}  // namespace consort::model

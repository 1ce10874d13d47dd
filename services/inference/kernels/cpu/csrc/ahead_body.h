// Included inside the unnamed namespace of what attends to pages of codes.

// What is read a segment later, line by line in the order of memory, into the second level
// cache. Lines are asked for a few at a time between all the work of a segment: memory would
// rest while weights are made, and what is asked for at once waits for places on its way.
// What follows a segment's worth is left to the next one, however many rows there are.
class Ahead {
 public:
  Ahead(const Attention& task, int page)
      : task_(task), page_(page), last_(page + kSegment / kPageTokens) {
    begin();
  }

  template <int kLines>
  void fetch_lines() {
    if (page_ == last_) return;
    fetch_far(line_, kLines * 64);
    line_ += kLines * 64;
    if (line_ < end_) return;
    ++page_;
    begin();
  }

 private:
  void begin() {
    line_ = task_.unit_at(page_);
    end_ = line_ + task_.unit_bytes;
  }

  const Attention& task_;
  int page_;
  const int last_;
  const uint8_t *line_, *end_;
};
